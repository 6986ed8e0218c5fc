//! Messages that a function answers with, read so that it is known whose fault it is where one cannot be.
//!
//! Contract: what the library says of bytes that are no message is a status like those that functions end with; from here it has a
//! cause that tells them apart.

use std::error::Error as Cause;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use prost::{DecodeError, Message};
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

/// What came is no message of its type.
#[derive(Debug)]
pub struct Unreadable(DecodeError);

impl Unreadable {
    /// If that is why a call ended so.
    pub fn of(status: &Status) -> Option<&Unreadable> {
        status.source()?.downcast_ref()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be read: {}", self.0)
    }
}

impl Cause for Unreadable {}

/// How the library's own words for a message above its limit begin.
const TOO_LONG: &str = "Error, decoded message length too large: ";

/// What there is to say of an answer where a call ended so because that is longer than is taken. The library says it as functions say
/// their statuses.
pub fn too_long(status: &Status) -> Option<String> {
    let what = status.message().strip_prefix(TOO_LONG)?;
    (status.code() == Code::OutOfRange).then(|| format!("is too long: {what}"))
}

/// The codec of such messages.
#[derive(Clone, Debug)]
pub struct Messages<Q, A>(ProstCodec<Q, A>);

impl<Q, A> Default for Messages<Q, A>
where
    ProstCodec<Q, A>: Default,
{
    fn default() -> Messages<Q, A> {
        Messages(ProstCodec::default())
    }
}

impl<Q, A> Codec for Messages<Q, A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = ProstEncoder<Q>;
    type Decoder = ReadingDecoder<A>;

    fn encoder(&mut self) -> ProstEncoder<Q> {
        self.0.encoder()
    }

    fn decoder(&mut self) -> ReadingDecoder<A> {
        ReadingDecoder(PhantomData)
    }
}

/// Reads them.
#[derive(Debug)]
pub struct ReadingDecoder<A>(PhantomData<A>);

impl<A: Message + Default> Decoder for ReadingDecoder<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        A::decode(from).map(Some).map_err(|error| {
            let error = Unreadable(error);
            let mut status = Status::internal(error.to_string());
            status.set_source(Arc::new(error));
            status
        })
    }
}

//! The connections to a function's process: HTTP/2 without TLS, one for everything while that has room.
//!
//! Contract: the first is never made anew behind anybody's back. That it has ended is known at once, and is how a function's end is
//! known. What is asked never waits for an answer to something else: a server takes so many streams of a connection at a time, and
//! one for each entity that is awake may be more. What it has no room for is refused at once. What a node itself asks a function has
//! room that nothing else takes.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::read::Messages;

/// What the SDKs take and give at most.
pub const MESSAGE_BYTES_MAX: usize = 12 << 20;
/// A process that does not answer for so long on the first connection is gone. Many servers end a connection on which nothing but such
/// questions comes: on the first something is said every few seconds (`pulse`), and those beside it end with it.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a question that was answered may stay open.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a function may take to an answer that nobody waits for.
const FORGOTTEN_TIMEOUT: Duration = Duration::from_secs(600);

/// Streams of a connection at a time: no server should take fewer (RFC 9113, 6.5.2), and some take no more than a few times that.
const STREAMS_MAX: usize = 100;
/// So many connections at most for what lasts; on top of that each takes as many streams as its server does.
const CONNECTIONS_MAX: usize = 64;
/// So many more for calls that end by themselves, where what lasts has all of those.
const CONNECTIONS_MORE: usize = 4;
/// Of the first connection's streams so many are the node's own: some of one kind at a time each, and what is told.
const OWN_STREAMS: usize = 8;
/// So much is told at a time: whoever does not listen must not keep the others from being heard.
const TOLD_MAX: usize = 4;

/// The first connection, which may have ended, and those beside it.
#[derive(Clone, Debug)]
pub struct Connection {
    first: Lane,
    address: SocketAddr,
    beside: Arc<Beside>,
    telling: Arc<Semaphore>,
}

/// How long what wants room goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// As long as an entity is awake.
    Awake,
    /// As long as a call is answered.
    Call,
}

impl Stay {
    fn connections_max(self) -> usize {
        match self {
            Stay::Awake => CONNECTIONS_MAX,
            Stay::Call => CONNECTIONS_MAX + CONNECTIONS_MORE,
        }
    }
}

/// Why there is no room. Nothing was said.
#[derive(Debug)]
pub enum NoRoom {
    /// Nobody takes another connection.
    Refused(String),
    /// All connections have as many streams as their server takes; so many are open.
    Full(usize),
}

#[derive(Debug, Default)]
struct Beside {
    lanes: Mutex<Vec<Lane>>,
    /// Held by who opens one: the next sees whether that one has room.
    opening: tokio::sync::Mutex<()>,
}

impl Beside {
    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Connects, within the time that the other side's TCP takes.
    ///
    /// # Errors
    /// Nobody is there.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        Ok(Connection {
            first: Lane::open(address, None).await?,
            address,
            beside: Arc::default(),
            telling: Arc::new(Semaphore::new(TOLD_MAX)),
        })
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        self.first.ended().await;
    }

    /// For a question of the node's own, one of its kind at a time: it has room.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.first.ask(path, question).await
    }

    /// The same where many may be told something: in turn.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn tell<Q, A>(&self, path: &'static str, said: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let _turn = self.telling.acquire().await;
        self.first.ask(path, said).await
    }

    /// Room for a stream, on whichever of the connections has it.
    ///
    /// # Errors
    /// There is none.
    pub async fn room(&self, stay: Stay) -> Result<Room, NoRoom> {
        if let Some(found) = self.room_there(stay) {
            return found;
        }
        let _opening = self.beside.opening.lock().await;
        if let Some(found) = self.room_there(stay) {
            return found;
        }
        let lane = Lane::open(self.address, Some(&self.first)).await;
        let lane = lane.map_err(NoRoom::Refused)?;
        self.beside.lock().push(lane.clone());
        lane.room(STREAMS_MAX).ok_or(NoRoom::Full(0))
    }

    /// The same on those that there are, if one has it or there are no more to be.
    fn room_there(&self, stay: Stay) -> Option<Result<Room, NoRoom>> {
        let mut beside = self.beside.lock();
        beside.retain(|lane| !lane.has_ended());
        let others = stay.connections_max() - 1;
        // What this server has said of the first it says of the others.
        let takes = self.first.takes.load(Ordering::Relaxed);
        let room = |most: usize| {
            let first = self.first.room(most.saturating_sub(OWN_STREAMS));
            first.or_else(|| beside.iter().take(others).find_map(|lane| lane.room(most)))
        };
        let is_last = beside.len() >= others;
        // Many take more than they should, and some any number.
        let found = room(takes.min(STREAMS_MAX)).or_else(|| is_last.then(|| room(takes)).flatten());
        let taken = || beside.iter().map(Lane::taken).sum::<usize>() + self.first.taken();
        match found {
            Some(room) => Some(Ok(room)),
            None => is_last.then(|| Err(NoRoom::Full(taken()))),
        }
    }
}

/// Room for one stream, on one of the connections.
#[derive(Debug)]
pub struct Room {
    lane: Lane,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.lane.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    /// A client of it.
    pub fn grpc(&self) -> Grpc<Lane> {
        self.lane.grpc()
    }

    /// One question and its answer, as soon as that has come: some SDKs never say that it was all, where they failed at it. They have
    /// a while for that, with nobody waiting.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn ask<Q, A>(self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.lane.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec = Messages::<Q, A>::default();
        let asking = grpc.server_streaming(tonic::Request::new(question), path, codec);
        let mut answers = asking.await?.into_inner();
        let answer = answers.message().await?;
        tokio::spawn(async move {
            let rest = async { while let Ok(Some(_)) = answers.message().await {} };
            // What goes on then is broken off as it is dropped.
            let _ = timeout(ENDING_TIMEOUT, rest).await;
            drop(self);
        });
        answer.ok_or_else(|| Status::internal("there is no answer"))
    }
}

/// Waits for a function's one answer, and has it answered also where nobody waits for that any more. Kalix's SDK ends the function's
/// process, and everybody else's commands with it, where an answer comes to a call that was broken off.
///
/// # Errors
/// The status that it ended with.
pub async fn to_its_end<A>(
    asking: impl Future<Output = Result<A, Status>> + Send + 'static,
) -> Result<A, Status>
where
    A: Send + 'static,
{
    let (mut sender, answered) = oneshot::channel();
    tokio::spawn(async move {
        let forgotten = async {
            sender.closed().await;
            sleep(FORGOTTEN_TIMEOUT).await;
        };
        let answer = tokio::select! {
            answer = asking => answer,
            () = forgotten => return,
        };
        // Nobody may wait for it any more.
        let _ = sender.send(answer);
    });
    let stopped = |_| Err(Status::unavailable("this node is stopping"));
    answered.await.unwrap_or_else(stopped)
}

/// Whether a call or a stream ended so because there is nobody who could have answered: what has a cause here the function did not say.
pub fn is_gone(status: &Status) -> bool {
    let is_said = std::error::Error::source(status).is_none();
    !is_said || matches!(status.code(), Code::Unavailable | Code::Cancelled)
}

/// Whether it ended so because its connection did, and not because of what came over it.
pub fn was_cut(status: &Status) -> bool {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.into_iter().any(|cause| {
        let is_canceled = |error: &hyper::Error| error.is_canceled() || error.is_closed();
        cause.is::<std::io::Error>() || cause.downcast_ref().is_some_and(is_canceled)
    })
}

/// One connection.
#[derive(Clone)]
pub struct Lane {
    sender: SendRequest<Body>,
    origin: http::Uri,
    ended: watch::Receiver<bool>,
    /// How many streams have room on it.
    taken: Arc<AtomicUsize>,
    /// How many its server takes, as it was when something was asked last.
    takes: Arc<AtomicUsize>,
    /// Ends the connection with its last user.
    _held: Arc<watch::Sender<()>>,
    /// Whoever uses one beside the first uses that.
    _first: Option<Arc<Lane>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("origin", &self.origin).finish()
    }
}

impl Lane {
    /// One by itself, or one that ends when the first has.
    async fn open(address: SocketAddr, first: Option<&Lane>) -> Result<Lane, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        // A command must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let origin = format!("http://{address}").parse().map_err(|e| format!("{e}"))?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if first.is_none() {
            builder
                .keep_alive_interval(ALIVE_EVERY)
                .keep_alive_timeout(ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
        }
        let (sender, mut driving) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let (end, ended) = watch::channel(false);
        let first_ended = first.map(|first| first.ended.clone());
        let (held, mut let_go) = watch::channel(());
        let takes = Arc::new(AtomicUsize::new(STREAMS_MAX));
        let said = Arc::clone(&takes);
        let driving = poll_fn(move |task| {
            let ended = Pin::new(&mut driving).poll(task);
            said.store(driving.current_max_send_streams(), Ordering::Relaxed);
            ended
        });
        tokio::spawn(async move {
            tokio::select! {
                result = driving => if let Err(error) = result {
                    tracing::debug!(%error, "the connection to a function ended");
                },
                // Nobody uses it any more.
                _ = let_go.changed() => {}
                () = over(first_ended) => {}
            }
            end.send_replace(true);
        });
        Ok(Lane {
            sender,
            origin,
            ended,
            taken: Arc::default(),
            takes,
            _held: Arc::new(held),
            _first: first.cloned().map(Arc::new),
        })
    }

    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// One more of so many streams.
    fn room(&self, most: usize) -> Option<Room> {
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        let taking = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taking.ok().map(|_| Room { lane: self.clone() })
    }

    async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    fn grpc(&self) -> Grpc<Lane> {
        Grpc::with_origin(self.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn ready(&self) -> Result<Grpc<Lane>, Status> {
        let mut grpc = self.grpc();
        let ready = grpc.ready().await;
        ready.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(grpc)
    }

    async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(question), path, ProstCodec::default());
        Ok(answer.await?.into_inner())
    }
}

/// Waits until the first has ended, where there is one.
async fn over(first: Option<watch::Receiver<bool>>) {
    match first {
        Some(mut first) => drop(first.wait_for(|ended| *ended).await),
        None => std::future::pending().await,
    }
}

impl tower_service::Service<http::Request<Body>> for Lane {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body::Frame;
    use tokio::net::TcpListener;
    use tokio::task::{AbortHandle, JoinSet};

    use super::*;

    /// The beginning of an answer that does not end.
    struct Endless(bool);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match std::mem::replace(&mut self.0, false) {
                true => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))),
                false => Poll::Pending,
            }
        }
    }

    /// A process that takes so many streams of a connection at a time, and the connections that it has taken.
    async fn process(streams: u32) -> (SocketAddr, Arc<Mutex<Vec<AbortHandle>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let counted = Arc::clone(&taken);
        tokio::spawn(async move {
            let mut all = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = |_| async { Ok::<_, Infallible>(http::Response::new(Endless(true))) };
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(streams);
                let service = hyper::service::service_fn(answer);
                let serving = all.spawn(server.serve_connection(TokioIo::new(stream), service));
                counted.lock().unwrap().push(serving);
            }
        });
        (address, taken)
    }

    async fn begin(lane: &mut Lane) -> http::Response<Incoming> {
        let request = http::Request::post(lane.origin.clone())
            .body(Body::empty())
            .unwrap();
        lane.sender.send_request(request).await.unwrap()
    }

    #[tokio::test]
    async fn more_streams_than_a_connection_takes_go_on_at_once() {
        let (address, taken) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 * STREAMS_MAX + 1 {
            let mut room = connection.room(Stay::Awake).await.unwrap();
            let answer = begin(&mut room.lane).await;
            streams.push((room, answer));
        }
        assert_eq!(taken.lock().unwrap().len(), 3);
        // Whose place is free again is whose turn is next.
        drop(streams);
        let all: Vec<Room> = {
            let rooms = (0..STREAMS_MAX).map(|_| connection.room_there(Stay::Awake).unwrap().unwrap());
            rooms.collect()
        };
        assert!(all.iter().all(|room| room.lane.sender.is_ready()));
        assert_eq!(taken.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_opens_no_more_than_is_needed() {
        let (address, taken) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..2 * STREAMS_MAX - OWN_STREAMS {
            let connection = connection.clone();
            asking.spawn(async move { connection.room(Stay::Awake).await.unwrap() });
        }
        let rooms = asking.join_all().await;
        assert_eq!(connection.beside.lock().len(), 1);
        // The last connection is known to the process once it says something there.
        for mut room in rooms {
            begin(&mut room.lane).await;
        }
        assert_eq!(taken.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_a_node_itself_asks_has_room_however_many_entities_are_awake() {
        let (address, _) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut awake = Vec::new();
        for _ in 0..STREAMS_MAX + 5 {
            let mut room = connection.room(Stay::Awake).await.unwrap();
            let answer = begin(&mut room.lane).await;
            awake.push((room, answer));
        }
        let mut first = connection.first.clone();
        let asking = timeout(Duration::from_secs(5), begin(&mut first));
        asking.await.expect("it waits for a stream to end");
    }

    #[tokio::test]
    async fn what_a_server_has_no_room_for_is_refused_at_once() {
        let (address, _) = process(1).await;
        let mut connection = Connection::open(address).await.unwrap();
        // It has said by the second how many it takes.
        begin(&mut connection.first).await;
        begin(&mut connection.first).await;
        let mut rooms = Vec::new();
        // The first has room for the node's own questions alone.
        for _ in 1..CONNECTIONS_MAX {
            rooms.push(connection.room(Stay::Awake).await.unwrap());
        }
        let full = |refused| match refused {
            Err(NoRoom::Full(streams)) => streams,
            other => panic!("{other:?}"),
        };
        assert_eq!(full(connection.room(Stay::Awake).await), CONNECTIONS_MAX - 1);
        for _ in 0..CONNECTIONS_MORE {
            rooms.push(connection.room(Stay::Call).await.unwrap());
        }
        let all = CONNECTIONS_MAX - 1 + CONNECTIONS_MORE;
        assert_eq!(full(connection.room(Stay::Call).await), all);
        rooms.remove(0);
        connection.room(Stay::Awake).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_takes_any_number_is_given_any_number() {
        let (address, _) = process(u32::MAX).await;
        let mut connection = Connection::open(address).await.unwrap();
        begin(&mut connection.first).await;
        begin(&mut connection.first).await;
        let mut rooms = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX * STREAMS_MAX {
            rooms.push(connection.room(Stay::Awake).await.unwrap());
        }
        assert_eq!(connection.beside.lock().len(), CONNECTIONS_MAX - 1);
    }

    #[tokio::test]
    async fn what_is_beside_the_first_ends_with_it_and_not_before() {
        let (address, taken) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut rooms = Vec::new();
        for _ in 0..STREAMS_MAX {
            rooms.push(connection.room(Stay::Awake).await.unwrap());
        }
        let mut beside = rooms.pop().unwrap().lane.clone();
        drop((connection, rooms));
        begin(&mut beside).await;
        assert!(!beside.has_ended());
        taken.lock().unwrap()[0].abort();
        timeout(Duration::from_secs(5), beside.ended()).await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_listen_keeps_nobody_from_being_asked() {
        let (address, _) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut telling = JoinSet::new();
        for _ in 0..2 * STREAMS_MAX {
            let connection = connection.clone();
            telling.spawn(async move { connection.tell::<(), ()>("/a/B", ()).await });
        }
        while connection.telling.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut first = connection.first.clone();
        let asking = timeout(Duration::from_secs(5), begin(&mut first));
        asking.await.expect("it waits for what is told");
    }
}

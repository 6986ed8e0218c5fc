//! The connections to a function's process: one for everything while that has room.
//!
//! Contract: that the main one has ended is known at once, and is how a function's end is known; it is followed by another only while
//! it goes on itself, where its server refuses streams of it. What is asked never waits for an answer to something else: a server takes so many streams of a connection at a time, and
//! one for each entity that is awake may be more. What it has no room for is refused at once. What a node itself asks a function has
//! room that nothing else takes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;

use super::lane::STREAMS_MAX;
pub use super::lane::{Headless, Lane, MESSAGE_BYTES_MAX, gone, is_gone, not_begun, was_cut};
use super::read::{Messages, too_long};

/// How long a question that was answered may stay open.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a function may take to an answer that nobody waits for.
const FORGOTTEN_TIMEOUT: Duration = Duration::from_secs(600);

/// So many connections at most for what lasts; on top of that each takes as many streams as its server does.
const CONNECTIONS_MAX: usize = 64;
/// So many more for calls that end by themselves, where what lasts has all of those.
const CONNECTIONS_MORE: usize = 4;
/// Of the main connection's streams so many are the node's own: some of one kind at a time each, and what is told.
const OWN_STREAMS: usize = 8;
/// So much is told at a time: whoever does not listen must not keep the others from being heard.
const TOLD_MAX: usize = 4;

/// All connections to a process, which may have ended.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Group>);

/// See [`Connection`]. They end with their last user.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    /// With it the others end.
    main: Mutex<Lane>,
    beside: Mutex<Vec<Lane>>,
    /// Held by who opens one: the next sees whether that one has room.
    opening: tokio::sync::Mutex<()>,
    telling: Semaphore,
    over: Arc<watch::Sender<bool>>,
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

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or does not answer.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        let over = Arc::new(watch::Sender::new(false));
        let main = Lane::open(address, true, &over).await?;
        Ok(Connection(Arc::new(Group {
            address,
            main: Mutex::new(main),
            beside: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            telling: Semaphore::new(TOLD_MAX),
            over,
        })))
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        let mut over = self.0.over.subscribe();
        // This is one of its users: whoever would say so is here.
        let _ = over.wait_for(|over| *over).await;
    }

    /// For a question of the node's own, one of its kind at a time: it has room.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let main = self.main();
        match main.ask(path, question.clone()).await {
            Err(status) if not_begun(&status) => {}
            answered => return answered,
        }
        self.follow(&main).await?.ask(path, question).await
    }

    /// The same where many may be told something: in turn.
    ///
    /// # Errors
    /// The status that it ended with.
    pub async fn tell<Q, A>(&self, path: &'static str, said: Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let _turn = self.0.telling.acquire().await;
        self.ask(path, said).await
    }

    fn main(&self) -> Lane {
        let main = self.0.main.lock().unwrap_or_else(PoisonError::into_inner);
        main.clone()
    }

    /// The main one after this, which goes on with what it has.
    async fn follow(&self, last: &Lane) -> Result<Lane, Status> {
        let _opening = self.0.opening.lock().await;
        let main = self.main();
        if !main.is_shut() {
            return Ok(main);
        }
        let next = Lane::open(self.0.address, true, &self.0.over).await;
        let next = next.map_err(Status::unavailable)?;
        // While it goes on nobody else is there than whom it was opened to.
        if last.has_ended() {
            return Err(Status::unavailable("its connection has ended"));
        }
        let mut main = self.0.main.lock().unwrap_or_else(PoisonError::into_inner);
        main.succeeded();
        *main = next;
        Ok(main.clone())
    }

    /// Room for a stream, on whichever of the connections has it.
    ///
    /// # Errors
    /// There is none.
    pub async fn room(&self, stay: Stay) -> Result<Room, NoRoom> {
        if let Some(found) = self.room_there(stay) {
            return found;
        }
        let _opening = self.0.opening.lock().await;
        if let Some(found) = self.room_there(stay) {
            return found;
        }
        let lane = Lane::open(self.0.address, false, &self.0.over).await;
        let lane = lane.map_err(NoRoom::Refused)?;
        self.0.beside().push(lane.clone());
        self.room_on(&lane, STREAMS_MAX).ok_or(NoRoom::Full(0))
    }

    fn room_on(&self, lane: &Lane, most: usize) -> Option<Room> {
        lane.take(most).then(|| Room {
            lane: lane.clone(),
            _group: Arc::clone(&self.0),
        })
    }

    /// The same on those that there are, if one has it or there are no more to be.
    fn room_there(&self, stay: Stay) -> Option<Result<Room, NoRoom>> {
        let (main, mut beside) = (self.main(), self.0.beside());
        beside.retain(|lane| !lane.has_ended() && !lane.is_shut());
        let others = stay.connections_max() - 1;
        // What this server has said of the main one it says of the others.
        let takes = main.takes();
        let room = |most: usize| {
            let on_main = self.room_on(&main, most.saturating_sub(OWN_STREAMS));
            on_main.or_else(|| {
                let mut others = beside.iter().take(others);
                others.find_map(|lane| self.room_on(lane, most))
            })
        };
        let is_last = beside.len() >= others;
        // Many take more than they should, and some any number.
        let found = room(takes.min(STREAMS_MAX)).or_else(|| is_last.then(|| room(takes)).flatten());
        let taken = || beside.iter().map(Lane::taken).sum::<usize>() + main.taken();
        match found {
            Some(room) => Some(Ok(room)),
            None => is_last.then(|| Err(NoRoom::Full(taken()))),
        }
    }
}

impl Group {
    fn beside(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one stream, on one of the connections.
#[derive(Debug)]
pub struct Room {
    lane: Lane,
    /// Whoever uses one connection uses all.
    _group: Arc<Group>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.lane.give_back();
    }
}

impl Room {
    /// A client of it.
    pub fn grpc(&self) -> Grpc<Lane> {
        self.lane.grpc()
    }

    /// A stream ended so before its time. Where that breaks off what is still being written, its server may never stop counting that.
    pub fn heard(&self, status: &Status) {
        if too_long(status).is_some() {
            self.lane.shut();
        }
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
        let answer = answers.message().await;
        let answer = answer.inspect_err(|status| self.heard(status))?;
        tokio::spawn(async move {
            let rest = async { while let Ok(Some(_)) = answers.message().await {} };
            // What goes on then is broken off as it is dropped.
            let _ = timeout(ENDING_TIMEOUT, rest).await;
            drop(self);
        });
        answer.ok_or_else(|| Status::internal("there is no answer"))
    }
}

/// This node is stopping.
#[derive(Debug, thiserror::Error)]
#[error("this node is stopping")]
struct Stopping;

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
    answered.await.unwrap_or_else(|_| Err(gone(Stopping)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::{AbortHandle, JoinSet};
    use tonic::body::Body;
    use tower_service::Service;

    use super::*;
    use crate::sidecar::proto::discovery::Empty;
    use crate::sidecar::resets::{Counted, RESETS_MAX};

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

    /// A process that does so with each of its connections, the first of which is 0.
    async fn listening<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut all = JoinSet::new();
            for nth in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                all.spawn(serve(nth, stream));
            }
        });
        address
    }

    async fn begin(lane: &mut Lane) -> http::Response<Counted<Incoming>> {
        let request = http::Request::post("http://function/")
            .body(Body::empty())
            .unwrap();
        lane.call(request).await.unwrap()
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
        assert!(all.iter().all(|room| room.lane.is_ready()));
        assert_eq!(taken.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_status_that_a_function_says_itself_was_taken_for_its_end() {
        let address = listening(|_, stream| async move {
            let over = Arc::new(tokio::sync::Notify::new());
            let hangs_up = Arc::clone(&over);
            let answer = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let hangs_up = Arc::clone(&hangs_up);
                async move {
                    let said = match request.uri().path() {
                        "/p.S/Unavailable" => Status::unavailable("my database is down"),
                        "/p.S/Cancelled" => Status::cancelled("it was too much"),
                        _ => {
                            hangs_up.notify_one();
                            std::future::pending().await
                        }
                    };
                    Ok::<_, Infallible>(said.into_http::<Body>())
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = server.serve_connection(TokioIo::new(stream), answer) => {}
                () = over.notified() => {}
            }
        })
        .await;
        let connection = Connection::open(address).await.unwrap();
        for (path, is) in [
            ("/p.S/Unavailable", false),
            ("/p.S/Cancelled", false),
            ("/p.S/Ends", true),
            // It has ended already.
            ("/p.S/Unavailable", true),
        ] {
            let room = connection.room(Stay::Call).await.unwrap();
            let status = room.ask::<Empty, Empty>(path, Empty {}).await.unwrap_err();
            assert_eq!(is_gone(&status), is, "{path}: {status:?}");
        }
        assert!(is_gone(&gone(Stopping)));
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
        assert_eq!(connection.0.beside().len(), 1);
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
        let mut first = connection.main();
        let asking = timeout(Duration::from_secs(5), begin(&mut first));
        asking.await.expect("it waits for a stream to end");
    }

    #[tokio::test]
    async fn what_a_server_has_no_room_for_is_refused_at_once() {
        let (address, _) = process(1).await;
        let connection = Connection::open(address).await.unwrap();
        // It has said by the second how many it takes.
        begin(&mut connection.main()).await;
        begin(&mut connection.main()).await;
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
        let connection = Connection::open(address).await.unwrap();
        begin(&mut connection.main()).await;
        begin(&mut connection.main()).await;
        let mut rooms = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX * STREAMS_MAX {
            rooms.push(connection.room(Stay::Awake).await.unwrap());
        }
        assert_eq!(connection.0.beside().len(), CONNECTIONS_MAX - 1);
    }

    #[tokio::test]
    async fn what_is_beside_the_first_ends_with_it_and_not_before() {
        let (address, taken) = process(STREAMS_MAX as u32).await;
        let connection = Connection::open(address).await.unwrap();
        let mut rooms = Vec::new();
        for _ in 0..STREAMS_MAX {
            rooms.push(connection.room(Stay::Awake).await.unwrap());
        }
        let mut last = rooms.pop().unwrap();
        let beside = last.lane.clone();
        drop((connection, rooms));
        begin(&mut last.lane).await;
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
        while connection.0.telling.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut first = connection.main();
        let asking = timeout(Duration::from_secs(5), begin(&mut first));
        asking.await.expect("it waits for what is told");
    }

    /// A process whose first connection begins with one stream alone and refuses all later ones.
    async fn refusing() -> SocketAddr {
        let serve = |nth, stream| async move {
            let (mut taken, mut open) = (h2::server::handshake(stream).await.unwrap(), Vec::new());
            while let Some(Ok((_, mut answer))) = taken.accept().await {
                if nth == 0 && !open.is_empty() {
                    answer.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                } else {
                    open.push(answer.send_response(http::Response::new(()), false).unwrap());
                }
            }
        };
        listening(serve).await
    }

    #[tokio::test]
    async fn a_connection_that_refuses_streams_is_given_no_more_and_goes_on() {
        let connection = Connection::open(refusing().await).await.unwrap();
        let mut first = connection.room(Stay::Awake).await.unwrap();
        let mut answer = begin(&mut first.lane).await;
        let request = http::Request::post("http://function/")
            .body(Body::empty())
            .unwrap();
        let mut refused = connection.room(Stay::Call).await.unwrap();
        let error = refused.lane.call(request).await.unwrap_err();
        assert!(not_begun(&Status::from_error(Box::new(error))));
        // Another has room, and what is asked by the node itself finds one.
        let mut other = connection.room(Stay::Call).await.unwrap();
        begin(&mut other.lane).await;
        let main = connection.main();
        begin(&mut connection.follow(&main).await.unwrap()).await;
        drop((main, other, refused));
        // What goes on there does, until its last user has gone.
        let ending = timeout(Duration::from_millis(50), answer.body_mut().frame());
        assert!(ending.await.is_err(), "it has ended");
        assert!(!connection.main().is_shut() && !*connection.0.over.borrow());
        drop((first, answer));
        begin(&mut connection.main()).await;
    }

    #[tokio::test]
    async fn what_nobody_reads_is_in_nobodys_way() {
        let answer = |request: http::Request<Incoming>| async move {
            let bytes = match request.method() {
                &http::Method::PUT => 8 << 20,
                _ => 1,
            };
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(vec![0; bytes]))))
        };
        let serve = move |_, stream| async move {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let service = hyper::service::service_fn(answer);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        };
        let address = listening(serve).await;
        let connection = Connection::open(address).await.unwrap();
        let mut main = connection.main();
        let mut unread = Vec::new();
        let asking = async {
            for _ in 0..50 {
                let request = http::Request::put("http://function/");
                let mut answer = main.call(request.body(Body::empty()).unwrap()).await.unwrap();
                answer.body_mut().frame().await.unwrap().unwrap();
                unread.push(answer);
            }
            begin(&mut main).await.into_body().collect().await.unwrap()
        };
        let answer = timeout(Duration::from_secs(10), asking).await;
        assert_eq!(answer.expect("it waits for the others").to_bytes().len(), 1);
    }

    /// Of each connection, how many streams were broken off, and how many have ended so or with it.
    type Counts = Arc<Mutex<Vec<(usize, usize)>>>;

    /// A process that counts.
    async fn counting() -> (SocketAddr, Counts) {
        let counts = Counts::default();
        let counted = Arc::clone(&counts);
        let serve = move |nth: usize, stream| {
            counted.lock().unwrap().push((0, 0));
            let counted = Arc::clone(&counted);
            async move {
                let (mut taken, mut open) = (h2::server::handshake(stream).await.unwrap(), JoinSet::new());
                while let Some(Ok((request, mut answer))) = taken.accept().await {
                    let counted = Arc::clone(&counted);
                    open.spawn(async move {
                        let is_whole = request.method() == http::Method::PUT;
                        let mut answer = answer.send_response(http::Response::new(()), is_whole).unwrap();
                        let broken_off = poll_fn(|task| answer.poll_reset(task)).await;
                        let mut counted = counted.lock().unwrap();
                        counted[nth].0 += usize::from(!is_whole && broken_off.is_ok());
                        counted[nth].1 += usize::from(!is_whole);
                    });
                }
                open.join_all().await;
            }
        };
        (listening(serve).await, counts)
    }

    #[tokio::test]
    async fn a_connection_is_given_no_more_streams_before_its_server_takes_offence_at_those_broken_off() {
        const LEFT: usize = 1_000;
        let (address, counts) = counting().await;
        let connection = Connection::open(address).await.unwrap();
        let mut stays = connection.room(Stay::Awake).await.unwrap();
        let mut answer = begin(&mut stays.lane).await;
        for _ in 0..10 {
            let mut leaving = Vec::new();
            for _ in 0..LEFT / 10 {
                let mut room = connection.room(Stay::Call).await.unwrap();
                let answer = begin(&mut room.lane).await;
                leaving.push((answer, room));
            }
        }
        let all = async {
            while counts
                .lock()
                .unwrap()
                .iter()
                .map(|(_, ended)| ended)
                .sum::<usize>()
                < LEFT
            {
                tokio::task::yield_now().await;
            }
        };
        let counted = timeout(Duration::from_secs(10), all).await;
        counted.unwrap_or_else(|_| panic!("{:?}", counts.lock().unwrap()));
        let most = counts.lock().unwrap().iter().map(|(off, _)| *off).max();
        assert!(
            most.unwrap() < RESETS_MAX + STREAMS_MAX,
            "{:?}",
            counts.lock().unwrap()
        );
        // Who stayed is still there, and what comes to its end counts for nothing.
        let ending = timeout(Duration::from_millis(50), answer.body_mut().frame());
        assert!(ending.await.is_err(), "it has ended");
        let connections = counts.lock().unwrap().len();
        for _ in 0..4 * RESETS_MAX {
            let mut room = connection.room(Stay::Call).await.unwrap();
            let request = http::Request::put("http://function/");
            let answer = room
                .lane
                .call(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            answer.into_body().collect().await.unwrap();
        }
        assert!(counts.lock().unwrap().len() <= connections + 1);
    }
}

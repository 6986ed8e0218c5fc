//! Who is connected, and who of them asks nothing at the moment.
//!
//! Why: connections are bounded, and clients keep theirs open for the next request, or never send a first one. Those make
//! room for whoever comes with something to ask.
//!
//! Contract: a connection with a request under way is never cut off here. A client whose idle one is cut off sees what it
//! would see had it been idle for too long.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Request};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Between two looks for somebody who can make room.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Places for connections.
pub(super) struct Places {
    free: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// Connections without a request, in the order in which they became so.
#[derive(Default)]
struct Idle {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's place.
pub(super) struct Seat {
    places: Arc<Places>,
    /// Set when it is to make room.
    cut_off: Arc<Notify>,
    state: Mutex<State>,
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    /// Requests whose answer is not over yet.
    busy: usize,
    /// Its number among the idle.
    number: Option<u64>,
}

impl Places {
    /// So many.
    pub(super) fn new(count: usize) -> Arc<Places> {
        Arc::new(Places {
            free: Arc::new(Semaphore::new(count)),
            idle: Mutex::default(),
        })
    }

    /// A place, once there is one: the longest idle connection makes room if there is none. `None`: there never will be.
    pub(super) async fn take(self: &Arc<Places>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        loop {
            let longest = self.idle().waiting.pop_first();
            if let Some((_, cut_off)) = longest {
                cut_off.notify_one();
            }
            let free = Arc::clone(&self.free).acquire_owned();
            match timeout(LOOK_EVERY, free).await {
                Ok(place) => return place.ok(),
                // That one has begun to ask in the same moment, or they are all busy.
                Err(_) => continue,
            }
        }
    }

    /// A connection that was accepted; it is idle until its first request.
    pub(super) fn seat(self: &Arc<Places>, place: OwnedSemaphorePermit) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            places: Arc::clone(self),
            cut_off: Arc::default(),
            state: Mutex::default(),
            _place: place,
        });
        seat.rest(&mut seat.state());
        seat
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Resolves when it is to make room.
    pub(super) async fn cut_off(&self) {
        loop {
            self.cut_off.notified().await;
            // A request may have come in the same moment.
            if self.is_idle() {
                return;
            }
        }
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.state().busy == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self, state: &mut State) {
        let mut idle = self.places.idle();
        let number = idle.next;
        idle.next += 1;
        idle.waiting.insert(number, Arc::clone(&self.cut_off));
        state.number = Some(number);
    }

    fn begin(self: &Arc<Seat>) -> Busy {
        let mut state = self.state();
        state.busy += 1;
        if let Some(number) = state.number.take() {
            self.places.idle().waiting.remove(&number);
        }
        Busy(Arc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(number) = self.state().number {
            self.places.idle().waiting.remove(&number);
        }
    }
}

/// A request under way.
struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy -= 1;
        if state.busy == 0 {
            self.0.rest(&mut state);
        }
    }
}

/// Around every handler: the connection is busy until the answer's body is over.
pub(super) async fn occupy(Extension(seat): Extension<Arc<Seat>>, request: Request, next: Next) -> Response {
    let busy = seat.begin();
    // The connection's own future holds the seat; a body must not keep it longer than that.
    drop(seat);
    let answer = next.run(request).await;
    answer.map(|body| Body::new(Answer { body, _busy: busy }))
}

/// An answer's body, and that it is under way.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_room_and_the_busy_do_not() {
        let places = Places::new(3);
        let mut seats = Vec::new();
        for _ in 0..3 {
            let place = places.take().await.unwrap();
            seats.push(places.seat(place));
        }
        // The first is busy, the second has been since: the third is idle for the longest.
        let busy = seats[0].begin();
        drop(seats[1].begin());
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        seats[2].cut_off().await;
        seats.pop();
        let fourth = places.seat(next.await.unwrap().unwrap());
        assert_eq!(places.idle().waiting.len(), 2);
        drop((fourth, seats, busy));
        assert_eq!(
            (places.idle().waiting.len(), places.free.available_permits()),
            (0, 3)
        );
    }
}

//! Streams beside the lanes.

use super::*;
use crate::transport::limits::{STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::transport::{FRAME_BYTES_MAX, Stream};

/// Runs this on a node's own thread, and waits for it.
fn on<T: Send + 'static>(node: &Node, task: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    node.transport.spawn(async move { drop(sender.send(task.await)) });
    receiver.recv_timeout(PATIENCE).expect("this hangs")
}

fn open(from: &Node, to: &Node, epoch: u64) -> Option<Stream> {
    on(from, from.transport.open_stream(to.id(), Epoch(epoch)))
}

impl Node {
    /// The stream that a peer has opened, once something has come on it.
    fn opened(&self) -> Stream {
        let passed = self
            .passed
            .borrow_mut()
            .extract_if(.., |event| matches!(event, Event::Stream { .. }))
            .next();
        if let Some(Event::Stream { stream, .. }) = passed {
            return stream;
        }
        loop {
            match self.events.recv_timeout(PATIENCE).expect("no stream was opened") {
                Event::Stream { stream, .. } => return stream,
                other => self.passed.borrow_mut().push(other),
            }
        }
    }
}

#[test]
fn frames_pass_both_ways_until_each_side_has_finished() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let bodies = [
        b"one".to_vec(),
        Vec::new(),
        vec![7; FRAME_BYTES_MAX - 1],
        b"last".to_vec(),
    ];
    let mut asked = open(&a, &b, 20).unwrap();
    let frames: Vec<Bytes> = bodies.iter().map(|body| frame(body)).collect();
    let sent = frames.clone();
    let sending = async move {
        for frame in sent {
            asked.out.send(frame).await.unwrap();
        }
        asked.out.finish();
        let mut heard = Vec::new();
        while let Some(frame) = asked.input.next().await.unwrap() {
            heard.push(frame);
        }
        heard
    };
    let (sender, heard) = std::sync::mpsc::channel();
    a.transport.spawn(async move { drop(sender.send(sending.await)) });
    let mut answered = b.opened();
    let all = on(&b, async move {
        let mut all = Vec::new();
        while let Some(frame) = answered.input.next().await.unwrap() {
            answered.out.send(frame.clone()).await.unwrap();
            all.push(frame);
        }
        answered.out.finish();
        answered.out.stopped().await;
        all
    });
    assert_eq!(all, frames);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), frames);
}

#[test]
fn who_drops_a_stream_has_not_said_all() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let asked = open(&a, &b, 20).unwrap();
    let (go_on, gone) = tokio::sync::oneshot::channel::<()>();
    a.transport.spawn(async move {
        let mut asked = asked;
        asked.out.send(frame(b"half of it")).await.unwrap();
        let _ = gone.await;
        drop(asked);
    });
    let mut answered = b.opened();
    on(&b, async move {
        assert_eq!(answered.input.next().await.unwrap(), Some(frame(b"half of it")));
        drop(go_on);
        assert!(answered.input.next().await.is_err(), "it was taken for its end");
        answered.out.stopped().await;
        assert!(answered.out.send(frame(b"nobody reads")).await.is_err());
    });
    assert!(open(&a, &b, 21).is_none(), "there is no such link");
    // It ends with its link.
    let mut asked = open(&a, &b, 20).unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    a.transport.spawn(async move {
        asked.out.send(frame(b"hello")).await.unwrap();
        drop(sender.send(asked.input.next().await));
    });
    let _answered = b.opened();
    b.transport.disconnect(a.id(), Epoch(10), "that is enough");
    assert!(ended.recv_timeout(PATIENCE).unwrap().is_err());
}

#[test]
fn streams_that_nobody_reads_hold_up_no_lane() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        let stream = open(&a, &b, 20).unwrap();
        let (sender, full) = std::sync::mpsc::channel();
        a.transport.spawn(async move {
            let mut stream = stream;
            // More than its window: it waits in the middle.
            for sent in 0.. {
                // The next does not fit the window, with its header.
                if sent + 1 == STREAM_WINDOW_BYTES as usize / FRAME_BYTES_MAX {
                    let _ = sender.send(());
                }
                if stream
                    .out
                    .send(frame(&vec![1; FRAME_BYTES_MAX - 1]))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        full.recv_timeout(PATIENCE).unwrap();
        held.push(b.opened());
    }
    // One more waits for a place.
    let (sender, opened) = std::sync::mpsc::channel();
    let opening = a.transport.open_stream(b.id(), Epoch(20));
    a.transport.spawn(async move {
        let _ = sender.send(opening.await.is_some());
    });
    for lane in Lane::ALL {
        for n in 0..8 {
            assert_eq!(a.send(b.id(), 20, lane, &vec![n; 500_000]), Sent::Queued);
            assert_eq!(b.frame(lane), vec![n; 500_000]);
        }
    }
    assert!(opened.try_recv().is_err(), "there was no place");
    // Places that are free are announced a few at a time.
    let some = held.split_off(STREAMS_MAX as usize / 2);
    on(&b, async move { drop(some) });
    assert!(opened.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn a_stream_of_what_is_no_frame_ends_alone() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let connection = a
        .transport
        .net
        .table()
        .link(b.id(), Epoch(20))
        .unwrap()
        .connection();
    for bytes in [
        // A kind of the transport's own, one that is too large, and one that is cut off.
        [0, 0, 0, 0, 0xf0, 0].as_slice(),
        &[0xff, 0xff, 0xff, 0x7f, 1, 0],
        &[9, 0, 0, 0, 1, 0, 1],
    ] {
        let (connection, bytes) = (connection.clone(), bytes.to_vec());
        a.transport.spawn(async move {
            let (mut out, _input) = connection.open_bi().await.unwrap();
            out.write_all(&bytes).await.unwrap();
            out.finish().unwrap();
            let _ = out.stopped().await;
        });
        let mut answered = b.opened();
        on(&b, async move { assert!(answered.input.next().await.is_err()) });
    }
    assert_eq!(a.send(b.id(), 20, Lane::Push, b"well"), Sent::Queued);
    assert_eq!(b.frame(Lane::Push), &b"well"[..]);
}

//! What a link carries, in which order, and how it ends.

use super::*;
use crate::transport::FRAME_BYTES_MAX;

#[test]
fn frames_pass_on_all_lanes_both_ways_in_order() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let bodies = [
        b"one".to_vec(),
        vec![2; 5000],
        vec![3; FRAME_BYTES_MAX - 1],
        Vec::new(),
        b"last".to_vec(),
    ];
    for lane in Lane::ALL {
        for body in &bodies {
            assert_eq!(a.send(b.id(), 20, lane, body), Sent::Queued);
            assert_eq!(b.send(a.id(), 10, lane, body), Sent::Queued);
        }
    }
    for lane in Lane::ALL {
        for body in &bodies {
            assert_eq!(b.frame(lane), body);
            assert_eq!(a.frame(lane), body);
        }
    }
    let sent: u64 = bodies.iter().map(|body| body.len() as u64 + 1).sum();
    for lane in Lane::ALL {
        let mut taken = 0;
        while taken < sent {
            taken += a.wait("bytes taken", |event| match event {
                Event::Taken { lane: on, bytes, .. } if *on == lane => Some(*bytes),
                _ => None,
            });
        }
        assert_eq!(taken, sent, "on {lane}");
    }
}

#[test]
fn gossip_passes_beside_the_frames() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    assert_eq!(a.transport.send_gossip(b.id(), b"syn"), Sent::Queued);
    let (from, message) = b.wait("gossip", |event| match event {
        Event::Gossip { from, message } => Some((*from, message.clone())),
        _ => None,
    });
    assert_eq!((from, &message[..]), (a.id(), &b"syn"[..]));
    assert_eq!(a.transport.send_gossip(NodeId(9), b"syn"), Sent::NoLink);
    assert_eq!(a.transport.counters().gossip_dropped, 1);
}

#[test]
fn the_hello_says_who_and_where() {
    let bed = Bed::new("shop");
    let elsewhere: SocketAddr = "192.0.2.7:4400".parse().unwrap();
    let a = Node::start(TransportConfig {
        advertise: vec![elsewhere],
        capabilities: 6,
        ..bed.config(1, 10)
    });
    let b = bed.node(2, 20);
    a.dial(&b);
    let hello = b.wait("a link", |event| match event {
        Event::Connected { hello, wall_ms, .. } => Some((hello.clone(), *wall_ms)),
        _ => None,
    });
    assert_eq!(
        (hello.0.node, hello.0.epoch, hello.0.capabilities),
        (a.id(), Epoch(10), 6)
    );
    assert_eq!(
        (&hello.0.addresses[..], hello.0.shards, hello.0.wall_ms),
        (&[elsewhere][..], 16, hello.1)
    );
    assert_eq!(a.transport.advertised(), [elsewhere]);
}

#[test]
fn a_frame_for_another_epoch_goes_nowhere() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    assert_eq!(a.send(b.id(), 19, Lane::Push, b"x"), Sent::NoLink);
    assert_eq!(a.send(NodeId(3), 20, Lane::Push, b"x"), Sent::NoLink);
}

#[test]
fn frames_that_are_held_stop_their_lane_and_no_other() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    // Nobody drops what b is told: it stays in `passed`, with its credit, and the bulk lane fills up.
    let full = vec![0; FRAME_BYTES_MAX - 1];
    let outcome = loop {
        let sent = a.send(b.id(), 20, Lane::Bulk, &full);
        if sent != Sent::Queued || a.transport.links()[0].queued_bytes > 20 << 20 {
            break sent;
        }
    };
    assert_eq!(outcome, Sent::Queued);
    for round in 0..100_u8 {
        assert_eq!(a.send(b.id(), 20, Lane::Control, &[round]), Sent::Queued);
        assert_eq!(b.frame(Lane::Control)[..], [round]);
    }
    assert!(
        a.transport.links()[0].queued_bytes > 10 << 20,
        "the bulk lane waits"
    );
}

#[test]
fn more_than_a_lane_holds_ends_the_link() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    let full = vec![0; FRAME_BYTES_MAX - 1];
    while a.send(b.id(), 20, Lane::Bulk, &full) == Sent::Queued {}
    assert_eq!(a.disconnected(b.id()), Reason::Overflow(Lane::Bulk));
    // The close may be lost among all the frames; then the next connection tells.
    let reason = b.disconnected(a.id());
    let told = matches!(&reason, Reason::ClosedByPeer(why) if why.contains("bulk"));
    assert!(told || reason == Reason::Replaced, "{reason}");
    a.connected(b.id(), 20);
}

#[test]
fn a_link_that_is_closed_is_dialled_again() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    a.transport
        .disconnect(b.id(), Epoch(19), "wrong epoch: nothing happens");
    a.transport.disconnect(b.id(), Epoch(20), "just so");
    assert_eq!(a.disconnected(b.id()), Reason::Closed("just so".into()));
    assert_eq!(
        b.disconnected(a.id()),
        Reason::ClosedByPeer("closed: just so".into())
    );
    a.connected(b.id(), 20);
    b.connected(a.id(), 10);
}

#[test]
fn who_leaves_says_so_after_its_last_frame() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    for n in 0..200_u8 {
        assert_eq!(a.send(b.id(), 20, Lane::Push, &[n; 5000]), Sent::Queued);
    }
    block_on(a.transport.leave());
    assert_eq!(a.disconnected(b.id()), Reason::Shutdown);
    assert_eq!(b.disconnected(a.id()), Reason::Left);
    for n in 0..200_u8 {
        assert_eq!(b.frame(Lane::Push)[..], [n; 5000]);
    }
}

#[test]
fn who_stops_says_something_else() {
    let bed = Bed::new("shop");
    let (a, b) = pair(&bed);
    block_on(a.transport.shutdown());
    assert_eq!(b.disconnected(a.id()), Reason::Stopped);
    let (c, d) = (bed.node(3, 1), bed.node(4, 1));
    c.dial(&d);
    d.connected(c.id(), 1);
    c.connected(d.id(), 1);
    drop(c);
    assert_eq!(d.disconnected(NodeId(3)), Reason::Stopped);
}

#[test]
fn a_taken_port_and_an_unusable_address_are_named() {
    let bed = Bed::new("shop");
    let a = bed.node(1, 1);
    let bind = |config| {
        Transport::bind(config, Arc::new(|_| {}))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let taken = bind(TransportConfig {
        listen: a.address(),
        ..bed.config(2, 1)
    });
    assert!(
        taken.contains(&a.address().to_string()) && taken.contains("in use"),
        "{taken}"
    );
    let nowhere = bind(TransportConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..bed.config(2, 1)
    });
    assert!(nowhere.contains("advertised"), "{nowhere}");
    let limits = Limits {
        mtu_bytes: 9000,
        ..Limits::default()
    };
    assert!(
        bind(TransportConfig {
            limits,
            ..bed.config(2, 1)
        })
        .contains("6550")
    );
}

#[test]
fn the_port_is_free_when_the_end_is_told() {
    let bed = Bed::new("shop");
    let b = bed.node(2, 20);
    let (tell, events) = channel();
    let mut config = bed.config(1, 10);
    // Not dropped yet when the next one binds: the end that is told is what counts.
    let mut ended = Vec::new();
    // Threads that want a core, so that what happens "right after" happens late.
    let busy = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for epoch in 10..60 {
            config.epoch = Epoch(epoch);
            let tell = tell.clone();
            let bound = Transport::bind(config.clone(), Arc::new(move |event| drop(tell.send(event))));
            let transport = match bound {
                Ok(transport) => transport,
                Err(error) => {
                    busy.store(false, Ordering::Relaxed);
                    panic!("epoch {epoch}: {error}");
                }
            };
            config.listen = transport.local_addr();
            if epoch % 5 == 0 {
                transport.set_peer_addresses(b.id(), vec![b.address()]);
                while !matches!(events.recv_timeout(PATIENCE).unwrap(), Event::Connected { .. }) {}
            }
            block_on(transport.shutdown());
            ended.push(transport);
        }
        busy.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_link_that_ends_at_once_is_dialled_after_longer_and_longer_waits() {
    let bed = Bed::new("shop");
    let b = bed.node(2, 20);
    let (tell, events) = channel();
    let cell: Arc<std::sync::OnceLock<Transport>> = Arc::default();
    let inner = cell.clone();
    let handler = move |event: Event| {
        if let Event::Connected { peer, epoch, .. } = event {
            inner.wait().disconnect(peer, epoch, "not wanted");
            let _ = tell.send(Instant::now());
        }
    };
    let config = TransportConfig {
        limits: Limits {
            reconnect_min: Duration::from_millis(40),
            ..Limits::default()
        },
        ..bed.config(1, 10)
    };
    let transport = Transport::bind(config, Arc::new(handler)).unwrap();
    transport.set_peer_addresses(b.id(), vec![b.address()]);
    assert!(cell.set(transport).is_ok());
    let first = events.recv_timeout(PATIENCE).unwrap();
    let mut last = first;
    for _ in 0..5 {
        last = events.recv_timeout(PATIENCE).unwrap();
    }
    // At least half of each of 40, 80, 160, 320 and 640 ms.
    let took = last - first;
    assert!(took >= Duration::from_millis(620), "six links in {took:?}");
}

#[test]
fn a_panic_of_a_task_is_told() {
    let bed = Bed::new("shop");
    let b = bed.node(2, 20);
    let (tell, events) = channel();
    let handler = move |event: Event| match event {
        Event::Connected { .. } => panic!("on purpose"),
        Event::Broken { what } => drop(tell.send(what)),
        _ => {}
    };
    let a = Transport::bind(bed.config(1, 10), Arc::new(handler)).unwrap();
    a.set_peer_addresses(b.id(), vec![b.address()]);
    assert!(events.recv_timeout(PATIENCE).unwrap().contains("panicked"));
    block_on(a.shutdown());
}

#[test]
fn a_seeds_addresses_are_dialled_at_the_same_time() {
    let bed = Bed::new("shop");
    let b = bed.node(2, 20);
    // A name with several addresses takes a name server; the loop over its addresses does not.
    let silent: Vec<_> = (0..5)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let a = Node::start(TransportConfig {
        limits: Limits {
            handshake_timeout: Duration::from_secs(3600),
            ..Limits::default()
        },
        ..bed.config(1, 10)
    });
    let mut addresses: std::collections::BTreeSet<_> =
        silent.iter().map(|socket| socket.local_addr().unwrap()).collect();
    addresses.insert(b.address());
    let net = a.transport.net.clone();
    a.transport.net.spawn(async move {
        crate::transport::dial::dial_all(&net, addresses, &mut Default::default()).await;
    });
    a.connected(b.id(), 20);
}

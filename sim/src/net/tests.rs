use super::*;
use crate::kernel::Kernel;

/// A network with a kernel under it and a diary.
struct Lab {
    net: Net,
    kernel: Kernel<NetEvent>,
    diary: Vec<String>,
}

impl Lab {
    fn new(nodes: usize, plan: NetPlan) -> Lab {
        let mut lab = Lab {
            net: Net::new(1, nodes, plan),
            kernel: Kernel::new(Default::default()),
            diary: Vec::new(),
        };
        for node in 0..nodes {
            lab.act(|net, now, out| net.start(now, node, 7, out));
        }
        lab.run(1_000_000);
        lab
    }

    fn act(&mut self, act: impl FnOnce(&mut Net, Micros, Schedule<'_>)) {
        let (now, kernel) = (self.kernel.now(), &mut self.kernel);
        act(&mut self.net, now, &mut |at, event| kernel.at(at, event));
    }

    fn run(&mut self, us: Micros) {
        let until = self.kernel.now() + us;
        while let Some(event) = self.kernel.next(until) {
            let (now, kernel) = (self.kernel.now(), &mut self.kernel);
            if let NetEvent::Frame(frame) = &event
                && self.net.arrives(frame)
            {
                self.diary
                    .push(format!("{}<{} {:?}", frame.to, frame.from, frame.bytes));
            }
            for told in self
                .net
                .on_event(now, &event, &mut |at, event| kernel.at(at, event))
            {
                if !matches!(told.news, News::Writable(_)) {
                    self.diary.push(format!(
                        "{}:{:?} {}/{}",
                        told.node, told.news, told.peer, told.epoch
                    ));
                }
            }
        }
        self.kernel.at(until, NetEvent::Taken { direction: 1 });
        self.kernel.next(until);
    }

    fn send(&mut self, from: NodeIx, to: NodeIx, text: &'static str) {
        self.send_on(1, from, to, text);
    }

    fn send_on(&mut self, lane: u8, from: NodeIx, to: NodeIx, text: &'static str) {
        self.act(|net, now, out| {
            net.send(
                now,
                Outgoing {
                    from,
                    to,
                    epoch: 7,
                    lane,
                    bytes: Bytes::from_static(text.as_bytes()),
                },
                out,
            )
        });
    }

    fn diary(&mut self) -> String {
        std::mem::take(&mut self.diary).join(", ")
    }
}

#[test]
fn links_come_up_at_both_ends_and_carry_frames_in_order() {
    let mut lab = Lab::new(2, NetPlan::benign());
    assert!(lab.net.is_up(0, 1));
    assert_eq!(lab.diary().matches("Connected").count(), 2);
    for text in ["a", "b", "c"] {
        lab.send(0, 1, text);
    }
    lab.run(100_000);
    assert_eq!(lab.diary(), r#"1<0 b"a", 1<0 b"b", 1<0 b"c""#);
}

#[test]
fn a_short_partition_delays_and_a_long_one_breaks_the_link() {
    let mut lab = Lab::new(
        2,
        NetPlan {
            idle_us: 2_000_000,
            ..NetPlan::benign()
        },
    );
    lab.diary();
    lab.act(|net, now, out| net.block(now, 0, 1, out));
    lab.send(0, 1, "waits");
    lab.run(1_000_000);
    assert_eq!(lab.diary(), "");
    lab.act(|net, now, out| net.unblock(now, 0, 1, out));
    lab.run(100_000);
    assert_eq!(lab.diary(), r#"1<0 b"waits""#);
    lab.act(|net, now, out| net.block(now, 0, 1, out));
    lab.send(0, 1, "lost");
    lab.run(4_000_000);
    let diary = lab.diary();
    assert!(
        diary.contains("0:Disconnected 1/7") && diary.contains("1:Disconnected 0/7"),
        "{diary}"
    );
    lab.act(|net, now, out| net.unblock(now, 0, 1, out));
    lab.run(3_000_000);
    assert!(lab.net.is_up(0, 1));
    assert!(!lab.diary().contains("lost"));
}

#[test]
fn a_restarted_peer_replaces_its_old_link() {
    let mut lab = Lab::new(2, NetPlan::benign());
    lab.diary();
    lab.act(|net, now, out| net.stop(now, 1, out));
    lab.act(|net, now, out| net.start(now, 1, 8, out));
    lab.run(1_000_000);
    let diary = lab.diary();
    assert!(
        diary.contains("0:Disconnected 1/7") && diary.contains("0:Connected 1/8"),
        "{diary}"
    );
    lab.run(20_000_000);
    assert_eq!(lab.diary(), "", "the old link's end was told once");
}

#[test]
fn a_ghost_reaches_a_later_life_and_an_ordinary_frame_does_not() {
    let mut lab = Lab::new(
        2,
        NetPlan {
            ghost: 1.0,
            ..NetPlan::benign()
        },
    );
    lab.diary();
    lab.send(0, 1, "x");
    lab.act(|net, now, out| net.stop(now, 1, out));
    lab.act(|net, now, out| net.start(now, 1, 8, out));
    lab.run(20_000_000);
    assert_eq!(lab.diary().matches("1<0").count(), 1);
}

#[test]
fn at_rest_only_the_chosen_links_are_up() {
    let mut lab = Lab::new(3, NetPlan::benign());
    lab.act(|net, now, out| net.block(now, 0, 2, out));
    lab.act(|net, now, out| net.heal(now, &[(0, 1), (2, 1)], out));
    lab.run(5_000_000);
    assert!(lab.net.is_up(0, 1) && lab.net.is_up(1, 2) && !lab.net.is_up(0, 2));
}

#[test]
fn bandwidth_delays_the_credit() {
    let mut lab = Lab::new(
        2,
        NetPlan {
            bytes_per_s: 10,
            ..NetPlan::benign()
        },
    );
    lab.diary();
    lab.send(0, 1, "0123456789");
    lab.run(900_000);
    assert_eq!(lab.diary(), "");
    lab.run(300_000);
    assert_eq!(lab.diary(), r#"1<0 b"0123456789""#);
}

#[test]
fn on_the_lane_of_calls_everything_comes_once_and_in_order() {
    let mut lab = Lab::new(
        2,
        NetPlan {
            ghost: 1.0,
            duplicate: 1.0,
            reorder: 1.0,
            ..NetPlan::benign()
        },
    );
    lab.diary();
    for text in ["a", "b", "c"] {
        lab.send_on(2, 0, 1, text);
    }
    lab.run(20_000_000);
    assert_eq!(lab.diary(), r#"1<0 b"a", 1<0 b"b", 1<0 b"c""#);
    lab.send_on(1, 0, 1, "d");
    lab.run(20_000_000);
    assert_eq!(lab.diary().matches("1<0").count(), 3);
}

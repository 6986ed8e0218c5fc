//! The store's tests. `script` is the door most go through: a line of steps in, a line of answers out.

mod beside;
mod crash_points;
mod damage;
mod golden;
mod mem_disk;
mod model;
mod real_disk;
mod recovery;
mod script;

use anabranch_crdt::NodeId;

use super::{Disk, Identity, Opened, Options, Recovered, Store, StoreError};

/// Who the tests are.
fn me() -> Identity {
    Identity {
        cluster: "test".to_owned(),
        node: NodeId(0xa),
        directory: 0xd1,
    }
}

/// Sizes small enough that a handful of records fills a segment.
fn small() -> Options {
    Options {
        segment_bytes: 4096,
        snapshot_bytes: 16 << 10,
        fill_bytes: 1024,
    }
}

/// What a store held when it was opened: the payloads of its image's blocks, then those of its records.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    image: Vec<Vec<u8>>,
    records: Vec<(u64, Vec<u8>)>,
}

impl Held {
    fn payloads(self) -> Vec<Vec<u8>> {
        self.image
            .into_iter()
            .chain(self.records.into_iter().map(|(_, payload)| payload))
            .collect()
    }
}

fn open<D: Disk>(disk: D, options: Options) -> Result<(Store<D>, Opened, Held), StoreError> {
    let mut held = Held::default();
    let (store, opened) = Store::open(disk, &me(), options, &mut |recovered| {
        match recovered {
            Recovered::Image(block) => held.image.push(block.to_vec()),
            Recovered::ImageEnd => {}
            Recovered::Record { lsn, payload } => held.records.push((lsn.0, payload.to_vec())),
        }
        Ok(())
    })?;
    Ok((store, opened, held))
}

//! The bytes of one file in memory, and what would be left of them if the machine stopped now.
//!
//! Visible bytes are one vector, always current. Beside it stands, for each sector changed since the last
//! sync, what it held before: an undo log, so that a write costs its own bytes and a crash decides sector by
//! sector. What lies beyond the last synced length needs none: before, it was nothing.
//! Not here: names, faults, who may write; see `mem_disk`.

use std::collections::BTreeMap;

/// The unit in which a write may be torn.
pub const SECTOR_BYTES: usize = 512;

const SECTOR: u64 = SECTOR_BYTES as u64;

type Sector = Box<[u8; SECTOR_BYTES]>;

/// What a crash asks about: may this unsynced part of the file survive?
pub(super) enum Part {
    /// The file has this length instead of its last synced one.
    Length(u64),
    /// The sector at this offset has its new bytes instead of its old ones.
    Sector(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    data: Vec<u8>,
    synced_len: u64,
    /// Sectors written since the last sync, with what they held before.
    dirty: BTreeMap<u64, Sector>,
    /// Sectors that a failed sync has dropped, with what is on disk: they read as written, no sync ever saves
    /// them, only writing them again does.
    dropped: BTreeMap<u64, Sector>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.data.len() as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let from = offset.min(self.len()) as usize;
        let count = out.len().min(self.data.len() - from);
        out[..count].copy_from_slice(&self.data[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.remember(offset, end);
        let (from, to) = (offset as usize, end as usize);
        if from == self.data.len() {
            self.data.extend_from_slice(bytes);
            return;
        }
        if to > self.data.len() {
            self.data.resize(to, 0);
        }
        self.data[from..to].copy_from_slice(bytes);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len() {
            self.remember(len, self.len());
        }
        self.data.resize(len as usize, 0);
    }

    pub(super) fn sync(&mut self) {
        self.synced_len = self.len();
        self.dirty.clear();
    }

    /// The sync failed: what it should have written is gone from the system's list of things to write.
    pub(super) fn fail_sync(&mut self) {
        for sector in self.synced_len.div_ceil(SECTOR)..self.len().div_ceil(SECTOR) {
            self.dropped
                .entry(sector)
                .or_insert_with(|| Box::new([0; SECTOR_BYTES]));
        }
        for (sector, before) in std::mem::take(&mut self.dirty) {
            self.dropped.entry(sector).or_insert(before);
        }
    }

    /// Flips one bit, on disk and as read. False if the file is too short.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let mask = 1 << (bit % 8);
        let Some(byte) = self.data.get_mut(offset as usize) else {
            return false;
        };
        *byte ^= mask;
        if let Some(before) = self.dirty.get_mut(&(offset / SECTOR)) {
            before[(offset % SECTOR) as usize] ^= mask;
        }
        true
    }

    /// The machine stops: each unsynced part survives or not as `keep` says. Parts that make no difference
    /// are not asked for. The length is asked for first, then, while it is refused, ever shorter extensions;
    /// then sectors in order.
    pub(super) fn crash(&mut self, keep: &mut dyn FnMut(Part) -> bool) {
        let visible = self.len();
        let len = self.surviving_len(keep);
        let dirty = std::mem::take(&mut self.dirty);
        let first_new = self.synced_len.div_ceil(SECTOR);
        self.data.resize(len.max(visible) as usize, 0);
        for (sector, before) in &dirty {
            // What a lost `set_len` cut off was never overwritten.
            let cut_off = sector * SECTOR >= visible;
            if *sector * SECTOR < len && self.differs(*sector, before) {
                let kept = !cut_off && keep(Part::Sector(sector * SECTOR));
                if !kept {
                    self.restore(*sector, before);
                }
            }
        }
        for sector in first_new..len.div_ceil(SECTOR) {
            if !dirty.contains_key(&sector)
                && self.differs(sector, &[0; SECTOR_BYTES])
                && !keep(Part::Sector(sector * SECTOR))
            {
                self.restore(sector, &[0; SECTOR_BYTES]);
            }
        }
        for (sector, on_disk) in std::mem::take(&mut self.dropped) {
            self.restore(sector, &on_disk);
        }
        self.data.resize(len as usize, 0);
        self.synced_len = len;
    }

    fn surviving_len(&self, keep: &mut dyn FnMut(Part) -> bool) -> u64 {
        let visible = self.len();
        if visible == self.synced_len || keep(Part::Length(visible)) {
            return visible;
        }
        let mut extension = visible.saturating_sub(self.synced_len) / 2;
        while extension >= SECTOR {
            let len = (self.synced_len + extension).next_multiple_of(SECTOR);
            if keep(Part::Length(len)) {
                return len;
            }
            extension /= 2;
        }
        self.synced_len
    }

    /// Saves what the sectors of a range hold, before they change for the first time since the last sync.
    fn remember(&mut self, from: u64, to: u64) {
        let sectors = from / SECTOR..to.div_ceil(SECTOR);
        if !self.dropped.is_empty() {
            for sector in sectors.clone() {
                if let Some(on_disk) = self.dropped.remove(&sector) {
                    self.dirty.insert(sector, on_disk);
                }
            }
        }
        for sector in sectors.start..sectors.end.min(self.synced_len.div_ceil(SECTOR)) {
            if !self.dirty.contains_key(&sector) {
                let mut before = Box::new([0; SECTOR_BYTES]);
                self.read(sector * SECTOR, before.as_mut_slice());
                self.dirty.insert(sector, before);
            }
        }
    }

    fn differs(&self, sector: u64, bytes: &[u8; SECTOR_BYTES]) -> bool {
        let now = &self.data[self.clip(sector)];
        now != &bytes[..now.len()]
    }

    fn restore(&mut self, sector: u64, bytes: &[u8; SECTOR_BYTES]) {
        let range = self.clip(sector);
        let count = range.len();
        self.data[range].copy_from_slice(&bytes[..count]);
    }

    /// The part of the data that lies in this sector.
    fn clip(&self, sector: u64) -> std::ops::Range<usize> {
        let from = (sector * SECTOR).min(self.len()) as usize;
        from..(from + SECTOR_BYTES).min(self.data.len())
    }
}

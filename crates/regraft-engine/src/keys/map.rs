//! Which rows of a parent were migrated, and under which key.
//!
//! A compact sorted table of 24 bytes per row (8 bytes of id, 16 of key), or 32 for ids that
//! aren't numbers (their XXH3-128 stands for them). Beyond a budget the table lives in an unnamed
//! temporary file that is mapped into memory, so that the process's own memory stays bounded
//! whatever the size of the parent.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};

use memmap2::Mmap;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::LegacyId;
use crate::error::{Error, Kind, Result};

/// What is known of a parent row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was migrated under this key.
    Key(Uuid),
    /// It is in quarantine, or blocked itself.
    Stopped,
    /// It was not migrated, and no reason is on record.
    Absent,
}

/// The keys of an entity's migrated rows.
pub(crate) struct KeyMap {
    numeric: bool,
    table: Table,
    /// Ids that are in quarantine or blocked, as table keys, sorted.
    stopped: Vec<u128>,
    /// Ids that are in the table and count as stopped.
    withdrawn: HashSet<u128>,
    /// Ids that stand for others.
    aliases: HashMap<u128, u128>,
}

enum Table {
    Memory(Vec<u8>),
    Mapped(Mmap),
}

impl Table {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

fn table_key(id: &LegacyId) -> u128 {
    match id {
        // The sign bit is flipped so that the order of the keys is that of the numbers.
        LegacyId::Number(n) => u128::from(n.cast_unsigned() ^ (1 << 63)),
        LegacyId::Text(text) => xxh3_128(text.as_bytes()),
    }
}

impl KeyMap {
    fn width(&self) -> usize {
        if self.numeric { 8 } else { 16 }
    }

    /// Takes rows that are in the map to be stopped all the same.
    pub(crate) fn stop<'a>(&mut self, ids: impl IntoIterator<Item = &'a LegacyId>) {
        self.withdrawn.extend(ids.into_iter().map(table_key));
    }

    /// Takes rows that are not in the map to be stopped, for which there is nothing on record yet.
    pub(crate) fn add_stopped<'a>(&mut self, ids: impl IntoIterator<Item = &'a LegacyId>) {
        self.stopped.extend(ids.into_iter().map(table_key));
        self.stopped.sort_unstable();
    }

    /// Lets an id stand for another.
    pub(crate) fn alias(&mut self, id: &LegacyId, stands_for: &LegacyId) {
        self.aliases.insert(table_key(id), table_key(stands_for));
    }

    /// Rows in the map.
    pub(crate) fn len(&self) -> usize {
        self.table.bytes().len() / (self.width() + 16)
    }

    /// Looks a number up.
    #[inline]
    pub(crate) fn number(&self, id: i64) -> Found {
        self.find(u128::from(id.cast_unsigned() ^ (1 << 63)))
    }

    /// Looks the text form of an id up.
    pub(crate) fn text(&self, id: &[u8]) -> Found {
        self.find(xxh3_128(id))
    }

    /// Looks an id up.
    pub(crate) fn find_id(&self, id: &LegacyId) -> Found {
        self.find(table_key(id))
    }

    /// Whether the ids are numbers.
    pub(crate) fn is_numeric(&self) -> bool {
        self.numeric
    }

    fn entry(&self, index: usize) -> u128 {
        let width = self.width();
        let at = index * (width + 16);
        let bytes = &self.table.bytes()[at..at + width];
        let mut key = [0; 16];
        key[16 - width..].copy_from_slice(bytes);
        u128::from_be_bytes(key)
    }

    fn find(&self, key: u128) -> Found {
        let key = match self.aliases.is_empty() {
            true => key,
            false => self.aliases.get(&key).copied().unwrap_or(key),
        };
        if !self.withdrawn.is_empty() && self.withdrawn.contains(&key) {
            return Found::Stopped;
        }
        // Interpolation first: ids are mostly dense, so that the right place is a step or two
        // away; then a binary search of what is left.
        let (mut low, mut high) = (0, self.len());
        for _ in 0..3 {
            if high - low < 8 {
                break;
            }
            let (first, last) = (self.entry(low), self.entry(high - 1));
            if key < first || key > last {
                return self.absent(key);
            }
            let span = last - first;
            if span == 0 {
                break;
            }
            let distance = (key - first) >> 64 == 0 && span >> 64 == 0;
            if !distance {
                break;
            }
            let guess = low + (((key - first) * (high - 1 - low) as u128) / span) as usize;
            let at = self.entry(guess);
            match at.cmp(&key) {
                std::cmp::Ordering::Equal => return self.key_at(guess),
                std::cmp::Ordering::Less => low = guess + 1,
                std::cmp::Ordering::Greater => high = guess,
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).cmp(&key) {
                std::cmp::Ordering::Equal => return self.key_at(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        self.absent(key)
    }

    fn absent(&self, key: u128) -> Found {
        if self.stopped.binary_search(&key).is_ok() {
            Found::Stopped
        } else {
            Found::Absent
        }
    }

    fn key_at(&self, index: usize) -> Found {
        let width = self.width();
        let at = index * (width + 16) + width;
        let mut key = [0; 16];
        key.copy_from_slice(&self.table.bytes()[at..at + 16]);
        Found::Key(Uuid::from_bytes(key))
    }
}

/// Builds a [`KeyMap`].
pub(crate) struct KeyMapBuilder {
    numeric: bool,
    budget: usize,
    memory: Vec<u8>,
    file: Option<BufWriter<File>>,
    last: Option<u128>,
    sorted: bool,
    stopped: Vec<u128>,
}

impl KeyMapBuilder {
    /// A builder for ids that are numbers or not, which may keep `budget` bytes in memory.
    pub(crate) fn new(numeric: bool, budget: usize) -> Self {
        Self {
            numeric,
            budget,
            memory: Vec::new(),
            file: None,
            last: None,
            sorted: true,
            stopped: Vec::new(),
        }
    }

    /// Adds a row. Numbers should come in rising order; other ids may come in any.
    pub(crate) fn add(&mut self, id: &LegacyId, key: Uuid) -> Result<()> {
        let entry = table_key(id);
        self.sorted &= self.last.is_none_or(|last| last < entry);
        self.last = Some(entry);
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&entry.to_be_bytes());
        bytes[16..].copy_from_slice(key.as_bytes());
        let bytes = if self.numeric {
            &bytes[8..]
        } else {
            &bytes[..]
        };
        if let Some(file) = &mut self.file {
            return Ok(file.write_all(bytes)?);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > self.budget {
            let mut file = BufWriter::new(tempfile::tempfile()?);
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    /// Adds a row that is in quarantine or blocked.
    pub(crate) fn add_stopped(&mut self, id: &LegacyId) {
        self.stopped.push(table_key(id));
    }

    /// The finished map.
    ///
    /// # Errors
    /// A temporary file that can't be written or mapped; the same id twice.
    pub(crate) fn finish(mut self) -> Result<KeyMap> {
        self.stopped.sort_unstable();
        let table = match self.file.take() {
            None => {
                let mut memory = std::mem::take(&mut self.memory);
                if !self.sorted {
                    sort_entries(&mut memory, self.numeric);
                }
                memory.shrink_to_fit();
                Table::Memory(memory)
            }
            Some(file) => {
                let file = file.into_inner().map_err(|e| {
                    Error::new(Kind::Internal, format!("temporary file: {}", e.error()))
                })?;
                // SAFETY: the file is unnamed and ours alone: nobody else can change or cut it
                // while it is mapped.

                if self.sorted {
                    Table::Mapped(unsafe { Mmap::map(&file)? })
                } else {
                    let mut map = unsafe { memmap2::MmapMut::map_mut(&file)? };
                    sort_entries(&mut map, self.numeric);
                    Table::Mapped(map.make_read_only()?)
                }
            }
        };
        Ok(KeyMap {
            numeric: self.numeric,
            table,
            stopped: self.stopped,
            withdrawn: HashSet::new(),
            aliases: HashMap::new(),
        })
    }
}

fn sort_entries(bytes: &mut [u8], numeric: bool) {
    if numeric {
        let (entries, _) = bytes.as_chunks_mut::<24>();
        entries.sort_unstable();
    } else {
        let (entries, _) = bytes.as_chunks_mut::<32>();
        entries.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(numeric: bool, budget: usize, ids: impl Iterator<Item = LegacyId>) -> KeyMap {
        let mut builder = KeyMapBuilder::new(numeric, budget);
        for (i, id) in ids.enumerate() {
            builder.add(&id, Uuid::from_u128(i as u128 + 1)).unwrap();
        }
        builder.add_stopped(&if numeric {
            LegacyId::Number(-77)
        } else {
            LegacyId::Text("bad".into())
        });
        builder.finish().unwrap()
    }

    #[test]
    fn finds_numbers_in_memory_and_in_a_mapped_file() {
        let ids: Vec<i64> = (-500..500)
            .map(|n| n * 37 + (n % 5))
            .chain([i64::MAX])
            .collect();
        for budget in [usize::MAX, 100] {
            let map = built(true, budget, ids.iter().map(|n| LegacyId::Number(*n)));
            assert_eq!(map.len(), ids.len());
            for (i, id) in ids.iter().enumerate() {
                assert_eq!(map.number(*id), Found::Key(Uuid::from_u128(i as u128 + 1)));
            }
            assert_eq!(map.number(1), Found::Absent);
            assert_eq!(map.number(-77), Found::Stopped);
            assert_eq!(map.number(i64::MIN), Found::Absent);
        }
    }

    #[test]
    fn finds_texts_in_any_order() {
        for budget in [usize::MAX, 100] {
            let map = built(
                false,
                budget,
                (0..1000).map(|n| LegacyId::Text(format!("id {n}"))),
            );
            for n in 0..1000u128 {
                assert_eq!(
                    map.text(format!("id {n}").as_bytes()),
                    Found::Key(Uuid::from_u128(n + 1))
                );
            }
            assert_eq!(map.text(b"bad"), Found::Stopped);
            assert_eq!(map.text(b"none"), Found::Absent);
        }
    }
}

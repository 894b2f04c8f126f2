//! Text embeddings that were computed before, bounded and kept across restarts.
//!
//! In memory the embeddings used last are kept. On disk one file per bundle, named by the hash of
//! its manifest, holds a record per prompt: SHA-256 of the prompt, the embedding, and a checksum of
//! both. Records are appended as they are made; a broken one is left out when the file is read, and
//! the file is written anew once it holds twice what is remembered. Prompts themselves are not in it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ndarray::Array1;
use sha2::{Digest, Sha256};

/// First bytes of a file; the width of an embedding follows.
const MAGIC: &[u8; 8] = b"SEEREMB1";
const CHECK_BYTES: usize = 8;
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// The embeddings used last, up to a number of them.
pub(super) struct Cache {
    capacity: usize,
    width: usize,
    clock: u64,
    entries: HashMap<Key, (u64, Array1<f32>)>,
    store: Option<Store>,
}

/// The file behind a cache.
struct Store {
    path: PathBuf,
    /// Records in the file, sound or not.
    record_count: usize,
}

impl Cache {
    /// An empty cache in memory.
    pub fn new(capacity: usize, width: usize) -> Self {
        Self { capacity, width, clock: 0, entries: HashMap::new(), store: None }
    }

    /// A cache that is kept in `folder` for the bundle of this hash. A file that cannot be read, or
    /// parts of it, are left out with a warning: embeddings can always be computed again.
    pub fn open(capacity: usize, width: usize, folder: &Path, bundle_sha256: &str) -> Self {
        let mut cache = Self::new(capacity, width);
        if capacity == 0 {
            return cache;
        }
        let path = folder.join(format!("{bundle_sha256}.embeddings"));
        let found = std::fs::create_dir_all(folder).and_then(|()| cache.read(&path));
        let (record_count, broken) = match found {
            Ok(counts) => counts,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, 0),
            Err(error) => {
                tracing::warn!(%error, "Cannot read remembered text embeddings");
                (0, 0)
            }
        };
        cache.store = Some(Store { path, record_count });
        if broken > 0 {
            tracing::warn!(record.count = broken, "Left out {broken} broken text embeddings");
            cache.rewrite();
        }
        cache
    }

    /// The embedding of a prompt, if it is remembered.
    pub fn get(&mut self, prompt: &str) -> Option<Array1<f32>> {
        self.clock += 1;
        let (used, embedding) = self.entries.get_mut(&key(prompt))?;
        *used = self.clock;
        Some(embedding.clone())
    }

    /// Remembers an embedding, in memory and in the file.
    pub fn put(&mut self, prompt: &str, embedding: Array1<f32>) {
        if self.capacity == 0 || embedding.len() != self.width {
            return;
        }
        let key = key(prompt);
        let record = record(&key, &embedding);
        self.insert(key, embedding);
        let Some(store) = &mut self.store else { return };
        store.record_count += 1;
        if store.record_count > 2 * self.capacity {
            self.rewrite();
        } else if let Err(error) = append(&store.path, self.width, &record) {
            tracing::warn!(%error, "Cannot keep a text embedding");
        }
    }

    fn insert(&mut self, key: Key, embedding: Array1<f32>) {
        self.clock += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (self.clock, embedding));
    }

    /// Reads a file; gives how many records it has and how many of them are broken.
    fn read(&mut self, path: &Path) -> std::io::Result<(usize, usize)> {
        let mut file = std::io::BufReader::new(File::open(path)?);
        let mut start = [0; MAGIC.len() + 4];
        if file.read_exact(&mut start).is_err() || start != header(self.width) {
            return Ok((1, 1));
        }
        let (mut count, mut broken) = (0, 0);
        let mut bytes = vec![0; KEY_BYTES + 4 * self.width + CHECK_BYTES];
        loop {
            let length = fill(&mut file, &mut bytes)?;
            if length == 0 {
                return Ok((count, broken));
            }
            count += 1;
            match sound(&bytes[..length], self.width) {
                Some((key, embedding)) => self.insert(key, embedding),
                None => broken += 1,
            }
        }
    }

    /// Writes the file anew, oldest first, and puts it in place at once.
    fn rewrite(&mut self) {
        let Some(store) = &mut self.store else { return };
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, (used, _))| *used);
        let mut bytes = header(self.width).to_vec();
        for (key, (_, embedding)) in &entries {
            bytes.extend(record(key, embedding));
        }
        let folder = store.path.parent().unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.persist(&store.path).map(drop).map_err(|error| error.error)
        });
        match written {
            Ok(()) => store.record_count = entries.len(),
            Err(error) => tracing::warn!(%error, "Cannot keep text embeddings"),
        }
    }
}

fn key(prompt: &str) -> Key {
    Sha256::digest(prompt.as_bytes()).into()
}

fn header(width: usize) -> [u8; MAGIC.len() + 4] {
    let mut bytes = [0; MAGIC.len() + 4];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&(width as u32).to_le_bytes());
    bytes
}

fn record(key: &Key, embedding: &Array1<f32>) -> Vec<u8> {
    let values = embedding.iter().flat_map(|value| value.to_le_bytes());
    let mut bytes: Vec<u8> = key.iter().copied().chain(values).collect();
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..CHECK_BYTES]);
    bytes
}

fn sound(bytes: &[u8], width: usize) -> Option<(Key, Array1<f32>)> {
    let (content, check) = bytes.split_at_checked(KEY_BYTES + 4 * width)?;
    if Sha256::digest(content)[..CHECK_BYTES] != *check {
        return None;
    }
    let (key, values) = content.split_first_chunk::<KEY_BYTES>()?;
    let values = values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    Some((*key, values.collect()))
}

/// Reads until the buffer is full or the file ends; gives how much was read.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

fn append(path: &Path, width: usize, record: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() == 0 {
        file.write_all(&header(width))?;
    }
    file.write_all(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(value: f32) -> Array1<f32> {
        Array1::from(vec![value, -value])
    }

    #[test]
    fn forgets_what_was_used_longest_ago() {
        let mut cache = Cache::new(2, 2);
        cache.put("a", vector(1.0));
        cache.put("b", vector(2.0));
        assert!(cache.get("a").is_some());
        cache.put("c", vector(3.0));
        assert_eq!(cache.get("b"), None);
        assert_eq!(cache.get("a"), Some(vector(1.0)));
        cache.put("a", vector(4.0));
        assert_eq!(cache.entries.len(), 2);
        assert_eq!(cache.get("a"), Some(vector(4.0)));
        let mut none = Cache::new(0, 2);
        none.put("a", vector(1.0));
        assert_eq!(none.get("a"), None);
    }

    #[test]
    fn remembers_across_restarts_within_its_bound() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = |capacity| Cache::open(capacity, 2, folder.path(), "bundle");
        let mut cache = open(3);
        for number in 0..10 {
            cache.put(&format!("prompt {number}"), vector(number as f32));
        }
        let length = std::fs::metadata(folder.path().join("bundle.embeddings")).expect("kept");
        assert!(length.len() <= 12 + 6 * (32 + 8 + 8), "{}", length.len());
        let mut again = open(3);
        assert_eq!(again.get("prompt 6"), None);
        for number in 7..10 {
            assert_eq!(again.get(&format!("prompt {number}")), Some(vector(number as f32)));
        }
        assert_eq!(Cache::open(3, 2, folder.path(), "other").get("prompt 9"), None);
        let text = std::fs::read(folder.path().join("bundle.embeddings")).expect("kept");
        assert!(!text.windows(6).any(|bytes| bytes == b"prompt"), "prompts are not on disk");
    }

    #[test]
    fn leaves_out_what_is_broken_and_goes_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bundle.embeddings");
        let open = |width| Cache::open(8, width, folder.path(), "bundle");
        let mut cache = open(2);
        ["a", "b", "c"].iter().zip(1..).for_each(|(p, v)| cache.put(p, vector(v as f32)));
        let whole = std::fs::read(&path).expect("kept");
        let mut flipped = whole.clone();
        flipped[12 + 48 + 33] ^= 1;
        std::fs::write(&path, &flipped).expect("writable");
        let mut cache = open(2);
        assert_eq!((cache.get("a"), cache.get("b")), (Some(vector(1.0)), None));
        assert_eq!(cache.get("c"), Some(vector(3.0)));
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("writable");
        let mut cache = open(2);
        assert_eq!((cache.get("b"), cache.get("c")), (Some(vector(2.0)), None));
        cache.put("c", vector(5.0));
        assert_eq!(open(2).get("c"), Some(vector(5.0)));
        for garbage in [&b"nothing of the kind, but long enough"[..], b"x", b""] {
            std::fs::write(&path, garbage).expect("writable");
            let mut cache = open(2);
            assert_eq!(cache.get("a"), None);
            cache.put("a", vector(9.0));
            assert_eq!(open(2).get("a"), Some(vector(9.0)));
        }
        // Another width: the bundle's, not the file's, counts.
        assert_eq!(open(3).get("a"), None);
    }
}

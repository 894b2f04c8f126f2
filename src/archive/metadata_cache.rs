//! Metadata of whole studies and series, compressed and kept on disk.
//!
//! A file is named by what it was made from, so it never goes stale: when an instance comes, goes
//! or changes, its name is another one. The oldest files go when there are too many bytes.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{Archive, ArchiveError, Scope, io_error};

/// Most bytes of all files together.
const SIZE_BYTES_MAX: u64 = 1 << 30;
/// Raised when the texts change.
const VERSION: &str = "metadata 1";

impl Archive {
    /// The metadata of a scope as one JSON array in a gzip file, from the cache or made now.
    ///
    /// `fingerprint` is that of the scope; see [`Archive::metadata`] for the texts.
    ///
    /// # Errors
    /// As [`Archive::metadata`], and when the disk fails.
    pub fn metadata_file(
        &self,
        scope: &Scope,
        fingerprint: &[u8; 32],
        dicomweb_root: &str,
    ) -> Result<PathBuf, ArchiveError> {
        let folder = self.0.files.cache();
        let path = folder.join(format!("{}.json.gz", name(fingerprint, dicomweb_root)));
        if path.exists() {
            return Ok(path);
        }
        let cannot = || io_error("keep compressed metadata");
        let file = tempfile::NamedTempFile::new_in(&folder).map_err(cannot())?;
        let buffered = BufWriter::with_capacity(256 << 10, file);
        let mut gzip = GzEncoder::new(buffered, Compression::fast());
        let mut before = "[";
        self.each_metadata(scope, dicomweb_root, |text| {
            gzip.write_all(before.as_bytes()).map_err(cannot())?;
            before = ",";
            gzip.write_all(text.as_bytes()).map_err(cannot())
        })?;
        gzip.write_all(b"]").map_err(cannot())?;
        let buffered = gzip.finish().map_err(cannot())?;
        let file = buffered.into_inner().map_err(|error| cannot()(error.into_error()))?;
        make_room(&folder, SIZE_BYTES_MAX).map_err(cannot())?;
        file.persist(&path).map_err(|error| cannot()(error.error))?;
        Ok(path)
    }
}

fn name(fingerprint: &[u8; 32], dicomweb_root: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    hasher.update(fingerprint);
    hasher.update(dicomweb_root);
    hex::encode(&hasher.finalize()[..20])
}

/// Removes the oldest files until at most `max` bytes are left.
fn make_room(folder: &std::path::Path, max: u64) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Files come and go while this looks.
        let Ok(metadata) = entry.metadata() else { continue };
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        files.push((changed, metadata.len(), entry.path()));
    }
    let mut size: u64 = files.iter().map(|(_, size, _)| size).sum();
    files.sort();
    for (_, of_file, path) in files {
        if size <= max {
            break;
        }
        size -= of_file;
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_oldest_files_go_first() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("new", 1), ("old", 30), ("older", 60)] {
            let path = folder.path().join(name);
            fs::write(&path, [0; 10]).unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        make_room(folder.path(), 20).unwrap();
        let exists = |name| folder.path().join(name).exists();
        assert_eq!((exists("new"), exists("old"), exists("older")), (true, true, false));
    }

    #[test]
    fn names_depend_on_content_and_on_where_clients_see_it() {
        assert_ne!(name(&[0; 32], "http://a"), name(&[0; 32], "http://b"));
        assert_ne!(name(&[0; 32], "http://a"), name(&[1; 32], "http://a"));
    }
}

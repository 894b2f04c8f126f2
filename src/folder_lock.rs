//! One process at a time in a folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a folder that seems in use is waited for. A process that was just killed, and a child
/// that was forked but has not yet started its program, hold their locks for a moment longer.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// The right to change a folder, held until dropped. It lies in the folder's file `lock`
/// (`flock(2)`), so a process that dies gives it back.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Takes the folder; `None` when another process has it and keeps it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        let file = File::create(folder.join("lock"))?;
        let taken = patiently(|| match file.try_lock() {
            Ok(()) => Some(Ok(true)),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(source)) => Some(Err(source)),
        });
        Ok(taken.unwrap_or(Ok(false))?.then(|| Self(file)))
    }
}

impl Drop for FolderLock {
    /// Closing the file alone would leave the lock with any child forked at that moment.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Tries every 10 ms until there is an answer; `None` when there was none for two seconds.
pub fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let answer = attempt();
        if answer.is_some() || started.elapsed() >= PATIENCE {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path()).unwrap().expect("free");
        assert!(FolderLock::take(folder.path()).unwrap().is_none());
        drop(held);
        assert!(FolderLock::take(folder.path()).unwrap().is_some());
    }

    /// Children forked by other threads share every open file until their program starts.
    #[test]
    fn a_folder_given_back_is_free_while_programs_are_started() {
        let folder = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").stdout(Stdio::null()).status().unwrap();
                }
            });
            for _ in 0..2000 {
                let file = File::create(folder.path().join("lock")).unwrap();
                assert!(file.try_lock().is_ok(), "the lock went on in a child");
                drop(FolderLock(file));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

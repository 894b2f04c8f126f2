//! Opening a bank: the database catches up with the journal, or is built again from it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use time::OffsetDateTime;
use tracing::warn;

use super::change::Change;
use super::journal::{Journal, RoundFiles};
use super::store::Store;
use super::{BankError, BankSettings, Effect, Inner, Live, Round, RoundHeader, SkillSet, Standing};
use crate::clock::Clock;
use crate::folder_lock::FolderLock;

const DATABASE: &str = "sled";

pub(super) fn open(
    folder: &Path,
    settings: BankSettings,
    clock: Clock,
) -> Result<Inner, BankError> {
    std::fs::create_dir_all(folder)?;
    let lock = lock(folder)?;
    let mut journal = Journal::open(folder)?;
    let rounds = RoundFiles::open(folder)?;
    let (store, live) = match load(folder, &mut journal, &rounds) {
        Ok(loaded) => loaded,
        Err(error) if error.is_damage() => {
            warn!(
                error = &error as &dyn std::error::Error,
                "The bank's database cannot be read; building it again from the journal"
            );
            move_aside(folder, &clock)?;
            load(folder, &mut journal, &rounds)?
        }
        Err(error) => return Err(error),
    };
    Ok(Inner {
        settings,
        clock,
        store,
        journal: Mutex::new(journal),
        round_files: rounds,
        live: RwLock::new(live),
        encoder: RwLock::new(None),
        folder: folder.to_owned(),
        _lock: lock,
    })
}

/// Sets the database of a closed bank aside, so that opening builds it again.
pub(super) fn set_aside(folder: &Path, clock: &Clock) -> Result<(), BankError> {
    let _lock = lock(folder)?;
    move_aside(folder, clock)
}

fn lock(folder: &Path) -> Result<FolderLock, BankError> {
    FolderLock::take(folder)?
        .ok_or_else(|| BankError::InUse { folder: folder.display().to_string() })
}

fn move_aside(folder: &Path, clock: &Clock) -> Result<(), BankError> {
    let database = folder.join(DATABASE);
    if database.exists() {
        let moment = clock.now().unix_timestamp_nanos() / 1_000_000;
        std::fs::rename(&database, folder.join(format!("{DATABASE}-set-aside-{moment}")))?;
    }
    Ok(())
}

/// Opens the database, applies what only the journal has, and reads what readers need at once.
/// sled panics on some kinds of damage; that is damage too.
fn load(
    folder: &Path,
    journal: &mut Journal,
    rounds: &RoundFiles,
) -> Result<(Store, Live), BankError> {
    catch_unwind(AssertUnwindSafe(|| {
        let store = Store::open(&folder.join(DATABASE))?;
        catch_up(&store, journal, rounds)?;
        let live = live(&store)?;
        Ok((store, live))
    }))
    .unwrap_or(Err(BankError::Panicked))
}

fn catch_up(store: &Store, journal: &mut Journal, rounds: &RoundFiles) -> Result<(), BankError> {
    let (_, offset) = store.applied()?;
    journal.replay(offset, |entry, after| {
        if let Change::Publish(header) = &entry.change {
            store.keep_skills(header.number, rounds.read(header)?.into_iter())?;
        }
        store.apply(&entry, after)
    })?;
    store.flush()
}

fn live(store: &Store) -> Result<Live, BankError> {
    let active = match store.active()? {
        Some(number) => {
            let header = store.round(number)?.ok_or(BankError::RoundDamaged { number })?;
            let skills = SkillSet::new(store.skills_of(number)?);
            if skills.len() as u64 != header.skill_count {
                return Err(BankError::RoundDamaged { number });
            }
            Round { header, skills }
        }
        None => nothing(),
    };
    let mut live = Live::new(Arc::new(active));
    let standings: HashMap<_, Standing> = store.standings()?.into_iter().collect();
    for (id, standing) in standings {
        live.set_standing(&id, standing);
    }
    for episode in store.episodes() {
        live.apply(Effect::Seen(Box::new(episode?)));
    }
    Ok(live)
}

/// What is active until round 0 is published, moments later.
fn nothing() -> Round {
    let header = RoundHeader {
        number: 0,
        parent: None,
        author: String::new(),
        report_id: None,
        note: String::new(),
        retired: Vec::new(),
        skill_count: 0,
        sha256: String::new(),
        published_at: OffsetDateTime::UNIX_EPOCH,
    };
    Round { header, skills: SkillSet::new([]) }
}

//! The database: sled behind a small face, flushed at every commit.
//!
//! One transaction applies one entry of the journal and notes how far the journal is applied, so
//! that database and journal agree after a stop at any moment: what the database lacks is applied
//! again from there.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::transaction::TransactionalTree;
use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use sled::{Batch, Db, IVec, Tree};
use uuid::Uuid;

use super::change::{Change, Entry, Standing};
use super::{AuditEntry, BankError, Episode, Evidence, RoundHeader, Skill, SkillId};
use crate::folder_lock::patiently;

const ACTIVE: &[u8] = b"active_round";
const SEQUENCE: &[u8] = b"applied_sequence";
const OFFSET: &[u8] = b"applied_offset";
const DIGEST_LENGTH: usize = 32;
const CACHE_BYTES: u64 = 64 << 20;

/// The trees of the bank.
pub(super) struct Store {
    db: Db,
    meta: Tree,
    /// Digest to skill: what rounds share is stored once.
    skills: Tree,
    /// Number to header.
    rounds: Tree,
    /// Number to the digests of its skills, in order.
    members: Tree,
    /// Id to standing.
    standings: Tree,
    /// Sequence and place to evidence.
    evidence: Tree,
    /// Id to episode with its last reward.
    episodes: Tree,
    /// Sequence to audit line.
    audit: Tree,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, BankError> {
        let db = open_database(path)?;
        let tree = |name: &str| db.open_tree(name);
        Ok(Self {
            meta: tree("meta")?,
            skills: tree("skills")?,
            rounds: tree("rounds")?,
            members: tree("members")?,
            standings: tree("standings")?,
            evidence: tree("evidence")?,
            episodes: tree("episodes")?,
            audit: tree("audit")?,
            db,
        })
    }

    /// The sequence of the last entry applied and the journal's offset after it.
    pub fn applied(&self) -> Result<(u64, u64), BankError> {
        Ok((number(self.meta.get(SEQUENCE)?), number(self.meta.get(OFFSET)?)))
    }

    /// The active round.
    pub fn active(&self) -> Result<Option<u64>, BankError> {
        Ok(self.meta.get(ACTIVE)?.map(|value| number(Some(value))))
    }

    /// Puts the skills of a round in place, before the entry that publishes it. Until then nothing
    /// refers to them.
    pub fn keep_skills(
        &self,
        number: u64,
        skills: impl Iterator<Item = Arc<Skill>>,
    ) -> Result<(), BankError> {
        let mut batch = Batch::default();
        let mut members = Vec::new();
        for skill in skills {
            let digest = skill.digest()?;
            members.extend(digest);
            if !self.skills.contains_key(digest)? {
                batch.insert(&digest, serde_json::to_vec(skill.as_ref())?);
            }
        }
        self.skills.apply_batch(batch)?;
        self.members.insert(key(number), members)?;
        Ok(())
    }

    /// Applies one entry of the journal, all of it or nothing; [`Store::flush`] makes it durable.
    ///
    /// # Errors
    /// When sled fails.
    pub fn apply(&self, entry: &Entry, offset: u64) -> Result<(), BankError> {
        let trees = (
            &self.meta,
            &self.rounds,
            &self.standings,
            &self.evidence,
            &self.episodes,
            &self.audit,
        );
        let done = trees.transaction(|(meta, rounds, standings, evidence, episodes, audit)| {
            let log = Log { evidence, episodes };
            match &entry.change {
                Change::Publish(header) => {
                    rounds.insert(&key(header.number), json(header)?)?;
                }
                Change::Activate { round } => {
                    meta.insert(ACTIVE, &key(*round))?;
                }
                Change::Stand { skill, standing, .. } => {
                    standings.insert(skill.as_str().as_bytes(), json(standing)?)?;
                }
                Change::Evidence(list) => {
                    for (place, item) in (0_u32..).zip(list) {
                        log.append(entry.sequence, place, item)?;
                    }
                }
            }
            if let Some(line) = entry.audit() {
                audit.insert(&key(entry.sequence), json(&line)?)?;
            }
            meta.insert(SEQUENCE, &key(entry.sequence))?;
            meta.insert(OFFSET, &key(offset))?;
            Ok(())
        });
        done.map_err(|error| match error {
            TransactionError::Abort(source) => BankError::Malformed(source),
            TransactionError::Storage(source) => BankError::Database(source),
        })
    }

    /// Makes what was applied durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self) -> Result<(), BankError> {
        self.db.flush()?;
        Ok(())
    }

    /// Headers of all rounds, by number.
    pub fn rounds(&self) -> Result<Vec<RoundHeader>, BankError> {
        self.rounds.iter().values().map(|value| Ok(serde_json::from_slice(&value?)?)).collect()
    }

    /// The header of a round.
    pub fn round(&self, number: u64) -> Result<Option<RoundHeader>, BankError> {
        read(&self.rounds, &key(number))
    }

    /// The skills of a round.
    ///
    /// # Errors
    /// When one is missing: the database is damaged.
    pub fn skills_of(&self, number: u64) -> Result<Vec<Arc<Skill>>, BankError> {
        let damaged = || BankError::RoundDamaged { number };
        let members = self.members.get(key(number))?.ok_or_else(damaged)?;
        let digests = members.chunks(DIGEST_LENGTH);
        digests
            .map(|digest| {
                let value = self.skills.get(digest)?.ok_or_else(damaged)?;
                Ok(Arc::new(serde_json::from_slice(&value)?))
            })
            .collect()
    }

    /// How skills stand; only those that differ from the usual.
    pub fn standings(&self) -> Result<Vec<(SkillId, Standing)>, BankError> {
        let entries = self.standings.iter();
        entries
            .map(|entry| {
                let (id, value) = entry?;
                let id = SkillId::parse(&String::from_utf8_lossy(&id))?;
                Ok((id, serde_json::from_slice(&value)?))
            })
            .collect()
    }

    /// One episode with its last reward.
    pub fn episode(&self, id: Uuid) -> Result<Option<Episode>, BankError> {
        read(&self.episodes, id.as_bytes())
    }

    /// All episodes, by id.
    pub fn episodes(&self) -> impl DoubleEndedIterator<Item = Result<Episode, BankError>> {
        self.episodes.iter().values().map(|value| Ok(serde_json::from_slice(&value?)?))
    }

    /// The evidence log from its end, newest first.
    pub fn evidence(&self) -> impl DoubleEndedIterator<Item = Result<Evidence, BankError>> {
        self.evidence.iter().values().rev().map(|value| Ok(serde_json::from_slice(&value?)?))
    }

    /// The audit log, newest first.
    pub fn audit(&self) -> impl Iterator<Item = Result<AuditEntry, BankError>> {
        self.audit.iter().values().rev().map(|value| Ok(serde_json::from_slice(&value?)?))
    }
}

type Abort = ConflictableTransactionError<serde_json::Error>;

/// The two trees that evidence goes into.
struct Log<'a> {
    evidence: &'a TransactionalTree,
    episodes: &'a TransactionalTree,
}

impl Log<'_> {
    fn append(&self, sequence: u64, place: u32, item: &Evidence) -> Result<(), Abort> {
        let mut at = key(sequence).to_vec();
        at.extend(place.to_be_bytes());
        self.evidence.insert(at, json(item)?)?;
        match item {
            Evidence::Episode(episode) => {
                if self.episodes.get(episode.id.as_bytes())?.is_none() {
                    self.episodes.insert(episode.id.as_bytes(), json(episode)?)?;
                }
            }
            Evidence::Reward { episode, reward } => {
                if let Some(value) = self.episodes.get(episode.as_bytes())? {
                    let mut known: Episode = serde_json::from_slice(&value)
                        .map_err(ConflictableTransactionError::Abort)?;
                    known.reward = Some(*reward);
                    self.episodes.insert(episode.as_bytes(), json(&known)?)?;
                }
            }
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Abort> {
    serde_json::to_vec(value).map_err(ConflictableTransactionError::Abort)
}

fn read<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, BankError> {
    Ok(tree.get(key)?.map(|value| serde_json::from_slice(&value)).transpose()?)
}

/// Big endian, so that the order of keys is the order of numbers.
fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Opens sled. It has a lock of its own, which nobody who has not the folder's can keep for long.
fn open_database(path: &Path) -> sled::Result<Db> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut opened = config.open();
    patiently(|| {
        if is_locked(&opened) {
            opened = config.open();
        }
        (!is_locked(&opened)).then_some(())
    });
    opened
}

/// sled 0.34 tells a held lock from other failures by its text alone.
fn is_locked(opened: &sled::Result<Db>) -> bool {
    matches!(opened, Err(sled::Error::Io(error)) if error.to_string().starts_with("could not acquire lock"))
}

fn number(value: Option<IVec>) -> u64 {
    value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes)
}

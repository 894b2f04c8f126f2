//! SEER-Bank: skills, the evidence they are judged by, and numbered rounds of them.
//!
//! A skill says what one way of asking means. Retrieval brings skills for a live order from its
//! words, modality, body part and views alone. Rounds are immutable; one is active, and any earlier
//! one can be made active again. Skills are retired, never deleted. Nothing of a patient is kept:
//! [`privacy::check`] guards whatever enters.
//!
//! A change is durable in an append-only journal before the database (sled) sees it, and the
//! database can be rebuilt from the journal and the files of rounds at any time.
//!
//! ```
//! use seer::bank::{Bank, BankSettings, NewSkill, RetrievalQuery, RoundDraft, Skill, tag};
//! use seer::clock::Clock;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let bank = Bank::open(folder.path(), BankSettings::default(), Clock::system())?;
//! let skill = Skill::new(NewSkill {
//!     tag: tag::ABBR_DISAMBIGUATE.into(),
//!     trigger: "lt hippo".into(),
//!     target: "left hippocampus".into(),
//!     ..NewSkill::default()
//! })?;
//! let round = bank.publish(RoundDraft { skills: vec![skill], ..RoundDraft::default() })?;
//! bank.activate(round.number(), "admin")?;
//! let query = RetrievalQuery { text: "pls outline L hippo".into(), ..Default::default() };
//! assert_eq!(bank.retrieve(&query)[0].skill.target, "left hippocampus");
//! # Ok(())
//! # }
//! ```

mod change;
mod error;
mod evidence;
mod exchange;
mod gain;
mod glossary;
mod journal;
mod metrics;
mod opening;
pub mod privacy;
mod retrieve;
mod round;
mod skill;
mod store;
mod withhold;
mod words;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

pub use change::{AuditEntry, Standing, StandingAction};
pub use error::BankError;
pub use evidence::{
    Episode, EpisodeSource, Evidence, Exposure, RejectReason, Reward, RewardSource,
};
pub use exchange::{Imported, export_jsonl, import_jsonl};
pub use gain::{Counts, Gain};
pub use glossary::glossary;
pub use metrics::{BankMetrics, TagMetrics};
pub use retrieve::{
    Offer, PhraseEncoder, RetrievalQuery, RetrievalSettings, SkillSet, Why, offers_in,
};
pub use round::{Round, RoundDraft, RoundHeader};
pub use skill::{Cues, NewSkill, Skill, SkillAudit, SkillId, Tag, tag};
pub use withhold::{Offered, withhold};

use crate::clock::Clock;
use crate::folder_lock::FolderLock;
use crate::telemetry;
use gain::{Entry as TallyEntry, Tally};
use journal::{Journal, RoundFiles};
use store::Store;

/// Most skills whose gain Prometheus is shown: each is three series.
const SHOWN_GAINS_MAX: usize = 200;

/// Settings of a bank.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BankSettings {
    /// How many skills an order is offered, and which.
    pub retrieval: RetrievalSettings,
}

/// The bank. Cheap to clone; methods block on the disk where they change something.
#[derive(Clone)]
pub struct Bank(Arc<Inner>);

struct Inner {
    settings: BankSettings,
    clock: Clock,
    store: Store,
    /// Whoever changes the bank holds it, so that sequence, journal and database stay in step.
    journal: Mutex<Journal>,
    round_files: RoundFiles,
    live: RwLock<Live>,
    encoder: RwLock<Option<Arc<dyn PhraseEncoder>>>,
    folder: PathBuf,
    /// Held for as long as the bank is open, so that no second process uses the folder.
    _lock: FolderLock,
}

/// What readers need at once.
struct Live {
    active: Arc<Round>,
    standings: HashMap<SkillId, Standing>,
    retired: HashSet<SkillId>,
    tallies: HashMap<SkillId, Tally>,
    frequency: metrics::Frequency,
}

impl Bank {
    /// Opens the bank of a folder, made when missing with round 0, which has no skills. A database
    /// that cannot be read is set aside and rebuilt from the journal.
    ///
    /// # Errors
    /// [`BankError::InUse`] when another process has it open; a damaged journal; the disk.
    pub fn open(folder: &Path, settings: BankSettings, clock: Clock) -> Result<Self, BankError> {
        let bank = Self(Arc::new(opening::open(folder, settings, clock)?));
        if bank.0.store.active()?.is_none() {
            bank.begin()?;
        }
        Ok(bank)
    }

    /// Sets the database aside and builds it again from the journal and the files of rounds.
    ///
    /// # Errors
    /// As [`Bank::open`].
    pub fn rebuild(folder: &Path, settings: BankSettings, clock: Clock) -> Result<Self, BankError> {
        opening::set_aside(folder, &clock)?;
        Self::open(folder, settings, clock)
    }

    /// Round 0 and its activation, on which a stop may fall too.
    fn begin(&self) -> Result<(), BankError> {
        if self.0.store.round(0)?.is_none() {
            let draft = RoundDraft {
                author: "seer".into(),
                note: "the empty bank".into(),
                ..RoundDraft::default()
            };
            self.publish_as(draft, 0, None)?;
        }
        self.activate(0, "seer")?;
        Ok(())
    }

    /// Where the bank lies.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Its settings.
    pub fn settings(&self) -> &BankSettings {
        &self.0.settings
    }

    /// Lets retrieval weigh meaning beside words.
    pub fn set_encoder(&self, encoder: Arc<dyn PhraseEncoder>) {
        *self.0.encoder.write().unwrap_or_else(PoisonError::into_inner) = Some(encoder);
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.0.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Reading

    /// The active round.
    pub fn active(&self) -> Arc<Round> {
        Arc::clone(&self.live().active)
    }

    /// A round with its skills.
    ///
    /// # Errors
    /// [`BankError::UnknownRound`].
    pub fn round(&self, number: u64) -> Result<Arc<Round>, BankError> {
        let active = self.active();
        if active.number() == number {
            return Ok(active);
        }
        let header = self.0.store.round(number)?.ok_or(BankError::UnknownRound { number })?;
        let skills = SkillSet::new(self.0.store.skills_of(number)?);
        Ok(Arc::new(Round { header, skills }))
    }

    /// Headers of all rounds, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rounds(&self) -> Result<Vec<RoundHeader>, BankError> {
        self.0.store.rounds()
    }

    /// The skills of the active round, by id, retired ones included.
    pub fn skills(&self) -> Vec<Arc<Skill>> {
        self.active().skills.iter().cloned().collect()
    }

    /// A skill of the active round, or the newest round that has it.
    ///
    /// # Errors
    /// [`BankError::UnknownSkill`].
    pub fn skill(&self, id: &SkillId) -> Result<Arc<Skill>, BankError> {
        if let Some(skill) = self.active().skill(id) {
            return Ok(Arc::clone(skill));
        }
        for header in self.rounds()?.iter().rev() {
            let skills = self.0.store.skills_of(header.number)?;
            if let Ok(at) = skills.binary_search_by(|skill| skill.id.cmp(id)) {
                return Ok(Arc::clone(&skills[at]));
            }
        }
        Err(BankError::UnknownSkill { id: id.clone() })
    }

    /// How a skill stands.
    pub fn standing(&self, id: &SkillId) -> Standing {
        self.live().standings.get(id).copied().unwrap_or_default()
    }

    /// The skills of the active round that an order calls for, retired ones left out.
    pub fn retrieve(&self, query: &RetrievalQuery) -> Vec<Offer> {
        self.retrieve_from(&self.active().skills, query)
    }

    /// The skills of any set that an order calls for, retired ones left out: for a round that is
    /// not active, or a candidate that is not published.
    pub fn retrieve_from(&self, skills: &SkillSet, query: &RetrievalQuery) -> Vec<Offer> {
        let encoder = self.0.encoder.read().unwrap_or_else(PoisonError::into_inner).clone();
        let retired = self.live().retired.clone();
        skills.retrieve_except(query, &self.0.settings.retrieval, &retired, encoder.as_deref())
    }

    /// What a skill is worth, with the evidence of those it absorbed.
    pub fn gain(&self, skill: &Skill) -> Gain {
        self.tally(skill).gain()
    }

    /// How often a skill was offered, withheld, named and of help.
    pub fn counts(&self, skill: &Skill) -> Counts {
        self.tally(skill).counts
    }

    fn tally(&self, skill: &Skill) -> Tally {
        let live = self.live();
        let ids = std::iter::once(&skill.id).chain(&skill.audit.absorbed);
        let tallies = ids.filter_map(|id| live.tallies.get(id));
        tallies.fold(Tally::default(), |sum, tally| sum.plus(tally))
    }

    /// An episode with its last reward.
    ///
    /// # Errors
    /// When the database fails.
    pub fn episode(&self, id: Uuid) -> Result<Option<Episode>, BankError> {
        self.0.store.episode(id)
    }

    /// Calls `each` with every episode.
    ///
    /// # Errors
    /// When the database fails.
    pub fn each_episode(&self, mut each: impl FnMut(Episode)) -> Result<(), BankError> {
        self.0.store.episodes().try_for_each(|episode| {
            each(episode?);
            Ok(())
        })
    }

    /// The last episodes that a skill was part of, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn evidence_of(&self, id: &SkillId, limit: usize) -> Result<Vec<Episode>, BankError> {
        let mut found = Vec::new();
        // Ids of episodes are UUIDs of version 7, which sort by time.
        for episode in self.0.store.episodes().rev() {
            let episode = episode?;
            if episode.exposure(id).is_some() || episode.named.as_ref() == Some(id) {
                found.push(episode);
                if found.len() == limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The evidence log as it was appended, newest first: rewards that were replaced included.
    ///
    /// # Errors
    /// When the database fails.
    pub fn evidence(&self, limit: usize) -> Result<Vec<Evidence>, BankError> {
        self.0.store.evidence().take(limit).collect()
    }

    /// Who changed what, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, BankError> {
        self.0.store.audit().take(limit).collect()
    }

    /// The figures of the bank.
    pub fn metrics(&self) -> BankMetrics {
        let live = self.live();
        live.frequency.metrics(&live.active, &live.retired)
    }

    /// Shows the figures to Prometheus: sizes, counts by tag, and the gain of the skills of the
    /// active round that have an interval, those with most evidence first.
    pub fn show_metrics(&self) {
        let figures = self.metrics();
        telemetry::metrics::bank_active(figures.active_round, figures.skill_count);
        telemetry::metrics::bank_episodes(figures.episode_count, figures.rewarded_count);
        for (tag, figures) in &figures.tags {
            let counts = figures.counts;
            let counts = [
                ("offered", counts.offered),
                ("withheld", counts.withheld),
                ("named", counts.named),
                ("helped", counts.helped),
            ];
            telemetry::metrics::bank_tag(tag, figures.retrieval_frequency, counts);
        }
        let active = self.active();
        let gains = active.skills.iter().map(|skill| (skill, self.gain(skill)));
        let mut known: Vec<_> = gains.filter(|(_, gain)| gain.interval.is_some()).collect();
        known.sort_by_key(|(_, gain)| std::cmp::Reverse(gain.n_with + gain.n_without));
        for (skill, gain) in known.into_iter().take(SHOWN_GAINS_MAX) {
            if let (Some(delta), Some(interval)) = (gain.delta, gain.interval) {
                telemetry::metrics::bank_gain(skill.id.as_str(), delta, interval);
            }
        }
    }
}

/// What one piece of evidence does to the sums.
enum Effect {
    Seen(Box<Episode>),
    Rewarded { before: Box<Episode>, after: Box<Episode> },
}

impl Live {
    fn new(active: Arc<Round>) -> Self {
        Self {
            active,
            standings: HashMap::new(),
            retired: HashSet::new(),
            tallies: HashMap::new(),
            frequency: metrics::Frequency::default(),
        }
    }

    fn set_standing(&mut self, id: &SkillId, standing: Standing) {
        if standing.retired {
            self.retired.insert(id.clone());
        } else {
            self.retired.remove(id);
        }
        self.standings.insert(id.clone(), standing);
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Seen(episode) => {
                self.frequency.see(&episode);
                for id in skills_of(&episode) {
                    self.tallies.entry(id.clone()).or_default().see(&episode, id);
                }
                self.reward(&episode, TallyEntry::In);
            }
            Effect::Rewarded { before, after } => {
                self.reward(&before, TallyEntry::Out);
                self.reward(&after, TallyEntry::In);
            }
        }
    }

    fn reward(&mut self, episode: &Episode, entry: TallyEntry) {
        let Some(reward) = episode.reward else { return };
        self.frequency.reward(episode, reward.value, entry);
        for id in skills_of(episode) {
            let tally = self.tallies.entry(id.clone()).or_default();
            tally.reward(episode, id, reward.value, entry);
        }
    }
}

/// The skills that an episode is evidence of, each once.
fn skills_of(episode: &Episode) -> impl Iterator<Item = &SkillId> {
    let offered = episode.exposures.iter().map(|exposure| &exposure.skill);
    let named = episode.named.iter().filter(|id| episode.exposure(id).is_none());
    offered.chain(named)
}

impl std::fmt::Debug for Bank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bank")
    }
}

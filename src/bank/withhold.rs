//! Withholding by chance, without which no gain could be estimated.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Exposure, Offer};
use crate::reason::OfferedSkill;

/// What an episode is offered: the skills that the prompt shows, and what is recorded of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offered {
    /// For the prompt, best first; withheld ones left out.
    pub shown: Vec<OfferedSkill>,
    /// For the record and the evidence log, withheld ones included.
    pub exposures: Vec<Exposure>,
}

/// Withholds each offer with a chance of `rate`, independently.
///
/// Chance is a hash of seed, episode and skill: the same episode run again, after a crash or as a
/// replay, is offered the same.
pub fn withhold(offers: &[Offer], rate: f64, seed: u64, episode: Uuid) -> Offered {
    let mut offered = Offered::default();
    for offer in offers {
        let withheld = chance(seed, episode, offer.skill.id.as_str()) < rate;
        let rank = (!withheld).then(|| offered.shown.len() as u32 + 1);
        offered.exposures.push(Exposure {
            skill: offer.skill.id.clone(),
            tag: offer.skill.tag.clone(),
            score: offer.score,
            rank,
            withheld,
        });
        if !withheld {
            offered.shown.push(offer.for_prompt());
        }
    }
    offered
}

/// Uniform on 0 to 1, 1 excluded.
fn chance(seed: u64, episode: Uuid, skill: &str) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_be_bytes());
    hasher.update(episode.as_bytes());
    hasher.update(skill);
    let digest = hasher.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    // 53 bits fill a double's fraction exactly.
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_repeatable_and_even() {
        let id = |n: u128| Uuid::from_u128(n);
        assert_eq!(chance(1, id(7), "seer:00"), chance(1, id(7), "seer:00"));
        assert_ne!(chance(1, id(7), "seer:00"), chance(2, id(7), "seer:00"));
        let below = (0..4000).filter(|n| chance(3, id(*n), "seer:00") < 0.25).count();
        assert!((900..1100).contains(&below), "{below} of 4000 at a rate of 0.25");
    }
}

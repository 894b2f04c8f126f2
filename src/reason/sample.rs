//! From logits to a token.

use std::cmp::Ordering;

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    random: SplitMix64,
}

impl Sampler {
    /// Greedy at temperature 0; otherwise draws from the nucleus `top_p` with a seeded generator.
    pub fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, random: SplitMix64(seed) }
    }

    /// Picks one of the `allowed` tokens; `None` when none of them has a finite logit.
    ///
    /// Ties go to the lower token, so that the same logits always give the same token.
    pub fn pick(&mut self, logits: &[f32], allowed: impl Iterator<Item = u32>) -> Option<u32> {
        let candidates = allowed
            .filter_map(|token| Some((token, *logits.get(token as usize)?)))
            .filter(|(_, logit)| logit.is_finite());
        if self.temperature <= 0.0 {
            let best = candidates.reduce(|best, next| if next.1 > best.1 { next } else { best });
            return best.map(|(token, _)| token);
        }
        self.draw(candidates.collect())
    }

    fn draw(&mut self, mut candidates: Vec<(u32, f32)>) -> Option<u32> {
        candidates
            .sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
        let highest = candidates.first()?.1;
        let weight = |logit: f32| (f64::from(logit - highest) / f64::from(self.temperature)).exp();
        let weights: Vec<f64> = candidates.iter().map(|&(_, logit)| weight(logit)).collect();
        let nucleus = weights.iter().sum::<f64>() * f64::from(self.top_p.clamp(0.0, 1.0));
        let mut mass = 0.0;
        let count = weights.iter().position(|w| {
            mass += w;
            mass >= nucleus
        });
        let kept = count.map_or(weights.len(), |last| last + 1);
        let mut target = self.random.unit() * weights[..kept].iter().sum::<f64>();
        for (&(token, _), weight) in candidates[..kept].iter().zip(&weights) {
            target -= weight;
            if target < 0.0 {
                return Some(token);
            }
        }
        candidates[..kept].last().map(|&(token, _)| token)
    }
}

/// Natural log-probability of a token under the whole distribution at temperature 1.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
    f64::from(logits[token as usize]) - highest - sum.ln()
}

/// Sebastiano Vigna's SplitMix64: one word of state, equal on every machine.
#[derive(Debug, Clone, PartialEq)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_highest_allowed_and_the_lower_of_equals() {
        let logits = [0.0, 3.0, 3.0, f32::NAN, 9.0];
        let mut greedy = Sampler::new(0.0, 1.0, 1);
        assert_eq!(greedy.pick(&logits, 0..4), Some(1));
        assert_eq!(greedy.pick(&logits, 0..5), Some(4));
        assert_eq!(greedy.pick(&logits, [3].into_iter()), None);
        assert_eq!(greedy.pick(&logits, [7].into_iter()), None);
    }

    #[test]
    fn draws_in_proportion_and_repeats_with_the_seed() {
        let logits = [0.0_f32, 2.0_f32.ln(), 1.0_f32.ln(), -50.0];
        let run = |seed| {
            let mut sampler = Sampler::new(1.0, 1.0, seed);
            (0..4000).map(|_| sampler.pick(&logits, 0..4).expect("finite")).collect::<Vec<_>>()
        };
        let drawn = run(7);
        assert_eq!(drawn, run(7));
        assert_ne!(drawn, run(8));
        let share = |token| drawn.iter().filter(|&&t| t == token).count() as f64 / 4000.0;
        for (token, expected) in [(0, 0.25), (1, 0.5), (2, 0.25), (3, 0.0)] {
            assert!((share(token) - expected).abs() < 0.03, "{token}: {}", share(token));
        }
    }

    #[test]
    fn the_nucleus_leaves_out_the_tail() {
        let logits = [4.0_f32.ln(), 3.0_f32.ln(), 2.0_f32.ln(), 1.0_f32.ln()];
        let mut sampler = Sampler::new(1.0, 0.65, 3);
        let drawn: Vec<u32> =
            (0..500).map(|_| sampler.pick(&logits, 0..4).expect("finite")).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1));
        assert!(drawn.iter().all(|&t| t < 2), "0.4 + 0.3 reaches 0.65");
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, -2.0, 80.0, 79.0];
        let sum: f64 = (0..4).map(|t| log_probability(&logits, t).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    /// First outputs for seed 1234567 from the reference implementation.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}

//! Retrieval from a large bank.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use seer::bank::{NewSkill, RetrievalQuery, RetrievalSettings, Skill, SkillSet, tag};

const SKILLS: usize = 100_000;
const ORDERS: usize = 300;
const LIMIT: Duration = Duration::from_millis(5);

const SIDES: [&str; 4] = ["left", "right", "lt", "rt"];
const STRUCTURES: [&str; 16] = [
    "hippocampus",
    "putamen",
    "thalamus",
    "kidney",
    "adrenal",
    "femur",
    "ventricle",
    "atrium",
    "caudate",
    "pallidum",
    "iliac",
    "scapula",
    "clavicle",
    "lung",
    "amygdala",
    "humerus",
];
const SYLLABLES: [&str; 16] = [
    "ka", "lo", "mir", "dun", "tep", "ras", "wob", "fli", "zan", "quo", "bre", "vul", "sig", "hep",
    "nor", "tib",
];

/// 100,000 skills with made-up words, structures and aliases; orders with typos and noise.
pub fn retrieval_from_a_large_bank() -> Result<()> {
    let start = Instant::now();
    let skills = (0..SKILLS).map(|n| Ok(Arc::new(skill(n)?))).collect::<Result<Vec<_>>>()?;
    let made = start.elapsed();
    let set = SkillSet::new(skills);
    let start = Instant::now();
    set.prepare();
    let prepared = start.elapsed();
    let settings = RetrievalSettings::default();
    let (mut times, mut found) = (Vec::with_capacity(ORDERS), 0);
    for number in 0..ORDERS {
        let wanted = number * 331 % SKILLS;
        let query = RetrievalQuery {
            text: order(wanted, number),
            modality: "CT".into(),
            body_part: "ABDOMEN".into(),
            cues: vec!["axial".into()],
        };
        let start = Instant::now();
        let offers = set.retrieve(&query, &settings);
        times.push(start.elapsed());
        let target = target(wanted);
        found += usize::from(offers.first().is_some_and(|offer| offer.skill.target == target));
    }
    times.sort();
    let (median, high) = (times[ORDERS / 2], times[ORDERS * 99 / 100]);
    println!(
        "{SKILLS} skills: retrieval {:.2} ms median, {:.2} ms at the 99th percentile, first is \
         right for {found} of {ORDERS} misspelled orders; index built in {:.1} s, skills made in \
         {:.1} s",
        median.as_secs_f64() * 1e3,
        high.as_secs_f64() * 1e3,
        prepared.as_secs_f64(),
        made.as_secs_f64(),
    );
    ensure!(median < LIMIT, "retrieval took {median:?}, the limit is {LIMIT:?}");
    ensure!(found * 10 >= ORDERS * 9, "only {found} of {ORDERS} orders found their skill");
    Ok(())
}

fn word(number: usize) -> String {
    [number / 65_536 % 16, number / 4096 % 16, number / 256 % 16, number / 16 % 16, number % 16]
        .map(|at| SYLLABLES[at])
        .concat()
}

fn target(number: usize) -> String {
    format!("{} {}", SIDES[number % 2], STRUCTURES[number / 7 % STRUCTURES.len()])
}

fn skill(number: usize) -> Result<Skill> {
    let structure = STRUCTURES[number / 5 % STRUCTURES.len()];
    Ok(Skill::new(NewSkill {
        tag: tag::ALL[number % tag::ALL.len()].into(),
        trigger: format!("{} {}", SIDES[number % 4], word(number)),
        target: target(number),
        aliases: vec![format!("{} {structure}", word(number * 31 % 1_000_000))],
        ..NewSkill::default()
    })?)
}

/// An order for a skill: its trigger with one letter lost, among words of order language.
fn order(wanted: usize, number: usize) -> String {
    let mut word = word(wanted);
    word.remove(1 + number % (word.len() - 2));
    format!(
        "Dear colleague, please be so kind and segment the {} {word} on this ct scan of the abdomen, \
         known {} finding on the other side, thanks",
        SIDES[wanted % 4],
        STRUCTURES[number % STRUCTURES.len()],
    )
}

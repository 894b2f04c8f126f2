use super::*;
use crate::bank::{NewSkill, tag};

fn skill(trigger: &str, target: &str, aliases: &[&str]) -> Skill {
    Skill::new(NewSkill {
        tag: tag::ABBR_DISAMBIGUATE.into(),
        trigger: trigger.into(),
        target: target.into(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ..NewSkill::default()
    })
    .expect("a skill")
}

fn bank() -> Vec<Skill> {
    let mut skills = vec![
        skill("lt hippo", "left hippocampus", &["left seahorse"]),
        skill("rt hippo", "right hippocampus", &["right seahorse"]),
        skill("XQZ", "left putamen", &[]),
        skill("volumetry of the memory centre", "hippocampus", &[]),
        skill("water tank", "urinary bladder", &["wee bag"]),
        skill("thinking cap", "brain", &[]),
        skill("hippocampus head", "left hippocampus", &[]),
    ];
    for number in 0..40 {
        let letters: String =
            [number / 7, number % 7, 3].iter().map(|n| char::from(b'j' + *n as u8)).collect();
        skills.push(skill(&format!("{letters}wort gland"), "liver", &[]));
    }
    skills
}

fn query(text: &str) -> RetrievalQuery {
    RetrievalQuery { text: text.into(), modality: "MR".into(), ..RetrievalQuery::default() }
}

fn first(text: &str) -> Option<String> {
    let offers = offers_in(&bank(), &query(text), &RetrievalSettings::default());
    offers.first().map(|offer| offer.skill.target.clone())
}

#[test]
fn orders_find_their_skill_through_typos_and_noise() {
    let rows = [
        ("pls outline the lt hippo, thx", Some("left hippocampus")),
        ("pls outline the left hippo, thx", Some("left hippocampus")),
        ("R hippo volumetry", Some("right hippocampus")),
        ("left seahrose please", Some("left hippocampus")),
        ("segment xqz", Some("left putamen")),
        ("segment xqy", None),
        ("the watr tnak", Some("urinary bladder")),
        ("outline the watr tank and stop", Some("urinary bladder")),
        ("volumetry of the memroy center", Some("hippocampus")),
        ("segment the spleen", None),
        ("", None),
    ];
    for (text, expected) in rows {
        assert_eq!(first(text).as_deref(), expected, "{text:?}");
    }
}

#[test]
fn the_other_side_is_never_first() {
    let offers = offers_in(&bank(), &query("rt hippo"), &RetrievalSettings::default());
    assert!(offers.iter().all(|offer| offer.skill.target != "left hippocampus"), "{offers:#?}");
}

#[test]
fn another_modality_is_left_out_and_another_body_part_scores_less() {
    let mut skill = skill("wee bag", "urinary bladder", &[]);
    skill.cues.modalities = vec!["CT".into()];
    skill.cues.body_parts = vec!["PELVIS".into()];
    let skills = [skill];
    let settings = RetrievalSettings::default();
    let ask = |modality: &str, body_part: &str| {
        let query = RetrievalQuery {
            modality: modality.into(),
            body_part: body_part.into(),
            ..query("outline the wee bag")
        };
        offers_in(&skills, &query, &settings).first().map(|offer| offer.score)
    };
    assert_eq!(ask("MR", "PELVIS"), None);
    let there = ask("CT", "ABDOMEN AND PELVIS").expect("offered");
    let elsewhere = ask("CT", "HEAD").expect("offered");
    assert!(there > elsewhere, "{there} {elsewhere}");
    assert_eq!(ask("CT", ""), Some(there));
}

#[test]
fn offers_are_few_diverse_and_the_same_every_time() {
    let mut skills: Vec<Skill> = ["grey comma", "grey comma left", "the grey comma", "comma grey"]
        .iter()
        .map(|trigger| skill(trigger, "left caudate nucleus", &[]))
        .collect();
    skills.push(skill("comma", "left hippocampus", &[]));
    let settings = RetrievalSettings { top_k: 2, ..RetrievalSettings::default() };
    let set = SkillSet::new(skills.iter().cloned().map(Arc::new));
    let offers = set.retrieve(&query("grey comma"), &settings);
    let targets: Vec<&str> = offers.iter().map(|offer| offer.skill.target.as_str()).collect();
    assert_eq!(targets, ["left caudate nucleus", "left hippocampus"]);
    skills.reverse();
    let again =
        SkillSet::new(skills.into_iter().map(Arc::new)).retrieve(&query("grey comma"), &settings);
    assert_eq!(again, offers);
}

#[test]
fn meaning_brings_what_words_do_not() {
    struct Close;
    impl PhraseEncoder for Close {
        fn encode(&self, texts: &[String]) -> Option<Vec<Vec<f32>>> {
            let row =
                |text: &String| if text.contains("bag") { vec![1.0, 0.1] } else { vec![1.0, 0.0] };
            Some(texts.iter().map(row).collect())
        }
    }
    let set = SkillSet::new([Arc::new(skill("wee bag", "urinary bladder", &[]))]);
    let (query, settings) = (query("outline the wee sack"), RetrievalSettings::default());
    assert!(set.retrieve(&query, &settings).is_empty());
    let offers = set.retrieve_except(&query, &settings, &HashSet::new(), Some(&Close));
    assert_eq!(offers.len(), 1);
    assert!(offers[0].why.meaning.is_some_and(|meaning| meaning > 0.9));
}

#[test]
fn labels_of_a_skill_play_no_part() {
    // The target is named by the order, the trigger is not.
    let offers = offers_in(
        &[skill("wee bag", "urinary bladder", &[])],
        &query("outline the urinary bladder"),
        &RetrievalSettings::default(),
    );
    assert!(offers.is_empty());
}

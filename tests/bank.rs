//! The bank: killed at any moment, rebuilt, asked over HTTP, used by orders.

mod api;
mod cli;
mod killed;
mod orders;

use std::path::Path;

use seer::bank::{Bank, BankSettings, NewSkill, RoundDraft, Skill, SkillId, StandingAction, tag};
use seer::clock::Clock;

pub fn open(folder: &Path) -> Bank {
    Bank::open(folder, BankSettings::default(), Clock::system()).unwrap()
}

pub fn skill(trigger: &str, target: &str) -> Skill {
    Skill::new(NewSkill {
        tag: tag::ABBR_DISAMBIGUATE.into(),
        trigger: trigger.into(),
        target: target.into(),
        ..NewSkill::default()
    })
    .unwrap()
}

pub fn draft(parent: u64, skills: Vec<Skill>) -> RoundDraft {
    RoundDraft { parent, author: "test".into(), note: "a test".into(), report_id: None, skills }
}

#[test]
fn a_bank_opens_as_it_was_closed_and_can_roll_back() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (skill("wee bag", "urinary bladder"), skill("XQZ", "left putamen"));
    {
        let bank = open(folder.path());
        assert_eq!((bank.active().number(), bank.skills().len()), (0, 0));
        let one = bank.publish(draft(0, vec![first.clone()])).unwrap();
        let two = bank.publish(draft(1, vec![first.clone(), second.clone()])).unwrap();
        assert_eq!((one.number(), two.number()), (1, 2));
        assert_eq!(bank.active().number(), 0, "published is not active");
        bank.activate(2, "test").unwrap();
        bank.pin(&second.id, "test").unwrap();
        bank.retire(&first.id, "test").unwrap();
    }
    let bank = open(folder.path());
    assert_eq!(bank.active().number(), 2);
    assert!(bank.standing(&second.id).pinned && bank.standing(&first.id).retired);
    let left_out = bank.publish(draft(2, vec![first.clone()]));
    assert!(left_out.unwrap_err().to_string().contains("pinned"));
    assert!(bank.retire(&second.id, "test").is_err());
    bank.unpin(&second.id, "test").unwrap();
    let three = bank.publish(draft(2, vec![first.clone()])).unwrap();
    assert_eq!(three.header.retired, std::slice::from_ref(&second.id));
    bank.activate(3, "test").unwrap();
    bank.activate(1, "test").unwrap();
    assert_eq!(bank.skills().len(), 1);
    let actions: Vec<String> =
        bank.audit(100).unwrap().into_iter().map(|line| line.action).collect();
    assert_eq!(
        actions,
        [
            "activate", "activate", "publish", "unpin", "retire", "pin", "activate", "publish",
            "publish", "activate", "publish"
        ]
    );
}

#[test]
fn retired_skills_are_not_offered_until_they_are_restored() {
    let folder = tempfile::tempdir().unwrap();
    let bank = open(folder.path());
    let known = skill("wee bag", "urinary bladder");
    bank.publish(draft(0, vec![known.clone()])).unwrap();
    bank.activate(1, "test").unwrap();
    let query =
        seer::bank::RetrievalQuery { text: "outline the wee bag".into(), ..Default::default() };
    assert_eq!(bank.retrieve(&query).len(), 1);
    bank.retire(&known.id, "test").unwrap();
    assert!(bank.retrieve(&query).is_empty());
    assert_eq!(bank.metrics().skill_count, 0);
    bank.stand(&known.id, StandingAction::Restore, "test").unwrap();
    assert_eq!(bank.retrieve(&query).len(), 1);
}

#[test]
fn a_second_process_is_refused_and_unknown_things_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bank = open(folder.path());
    let second = Bank::open(folder.path(), BankSettings::default(), Clock::system());
    assert!(second.unwrap_err().to_string().contains("in use"));
    assert!(bank.activate(7, "test").unwrap_err().to_string().contains("round 7"));
    let id = SkillId::parse("seer:0123456789ab").unwrap();
    assert!(bank.retire(&id, "test").unwrap_err().to_string().contains("seer:0123456789ab"));
}

#[test]
fn a_damaged_database_is_built_again_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    {
        let bank = open(folder.path());
        bank.publish(draft(0, vec![skill("XQZ", "left putamen")])).unwrap();
        bank.activate(1, "test").unwrap();
        bank.pin(&skill("XQZ", "left putamen").id, "test").unwrap();
    }
    let garble = |name: &str| {
        let file = folder.path().join("sled").join(name);
        let length = file.metadata().unwrap().len();
        std::fs::write(&file, vec![0x5a; length as usize]).unwrap();
    };
    let check = || {
        let bank = open(folder.path());
        assert_eq!((bank.active().number(), bank.skills().len()), (1, 1));
        assert!(bank.standing(&skill("XQZ", "left putamen").id).pinned);
        assert_eq!(bank.audit(10).unwrap().len(), 5);
    };
    // sled takes a garbled log for an empty one, and refuses a garbled configuration.
    garble("db");
    check();
    garble("conf");
    check();
    let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
    let set_aside = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("sled-set-aside"))
        .count();
    assert_eq!(set_aside, 1);
}

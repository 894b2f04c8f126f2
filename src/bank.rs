//! SEER-Bank: skills, evidence and rounds.

//! Evaluation: suites, scores and the tables of the paper.

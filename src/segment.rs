//! A volume and an answer into masks: the text-promptable backbone.

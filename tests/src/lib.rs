//! The lab in which end-to-end tests run.

//! Statuses as tables.

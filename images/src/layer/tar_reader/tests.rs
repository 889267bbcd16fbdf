//! Archives of every dialect.

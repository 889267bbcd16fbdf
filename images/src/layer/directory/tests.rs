//! What hostile and odd archives leave on the disk.

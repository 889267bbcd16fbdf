//! What the monitor and the engine say to each other.

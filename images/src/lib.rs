//! The image store: pull, keep by digest, unpack, snapshot.

//! What every snapshotter must do, with every way to hold a layer.

//! `config.json` as plain data, runtime-spec 1.3: facts only, no defaults hidden.

//! The zoo: config.json and weights to a Burn module, with heads.

//! Floor 2: one SQLite file done well

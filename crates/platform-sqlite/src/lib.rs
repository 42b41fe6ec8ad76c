//! Floor 3: the platform stores on SQLite

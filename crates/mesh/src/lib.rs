//! Floor 2: serving and calling

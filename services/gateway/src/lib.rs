//! Floor 4: the embedded gateway

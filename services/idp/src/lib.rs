//! Floor 4: the development identity provider

//! Floor 4: the platform back end

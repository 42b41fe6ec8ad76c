//! Floor 0: the generated contracts

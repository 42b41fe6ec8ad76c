//! Floor 4: the user portal's back end

//! Floor 2: HTTP/JSON to gRPC and back

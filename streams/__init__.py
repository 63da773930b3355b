"""What the stream means, and the online path: events in, features, predictions out."""

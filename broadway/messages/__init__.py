"""Messages that services exchange: events, the broker's topology, and signed tickets."""

"""Resources of the second HTTP interface: answers and request bodies, for the server and its clients."""

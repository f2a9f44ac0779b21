"""Settings of every program: command line > environment > config file > default. Nothing is read before main()."""

#!/bin/sh
yes | head -n 20000
kill -SEGV $$

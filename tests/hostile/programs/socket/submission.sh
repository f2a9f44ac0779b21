#!/bin/sh
perl -e 'socket(S, 1, 1, 0) && bind(S, pack("Sa108", 1, "/job/a.out")) && chmod 0755, "/job/a.out"'

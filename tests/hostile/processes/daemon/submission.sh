#!/bin/sh
(setsid sh -c 'sleep 1000' &)
exit 0

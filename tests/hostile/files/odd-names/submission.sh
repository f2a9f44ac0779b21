#!/bin/sh
cd /job/out
: > ./-rf
: > './
'
: > '...'
: > './$(reboot)'
: > "./$(printf '\377\376')"
: > './*'
mkdir ./--help
exit 0

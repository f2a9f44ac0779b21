#!/bin/sh
env | grep -q hunter2 && exit 66
exit 0

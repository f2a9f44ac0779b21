#!/bin/sh
trap '' TERM INT HUP QUIT
sleep 1000

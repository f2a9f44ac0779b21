#!/bin/sh
sleep 0.95
exit 0

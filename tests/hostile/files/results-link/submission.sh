#!/bin/sh
ln -s /etc/passwd /job/results.json

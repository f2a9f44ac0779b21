#!/bin/sh
rm -f /bin/*

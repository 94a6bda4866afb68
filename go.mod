module libeesp

go 1.26

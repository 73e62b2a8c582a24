// Renders a chart as Helm does: the same template engine and functions, and the objects that a
// chart's templates are given. No chart may need more of Helm than is here.
//
//	render-chart CHART RELEASE NAMESPACE [VALUES-AS-JSON]
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

func main() {
	if len(os.Args) < 4 {
		fatal(fmt.Errorf("usage: render-chart CHART RELEASE NAMESPACE [VALUES-AS-JSON]"))
	}
	rendered, err := render(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		fatal(err)
	}
	fmt.Print(rendered)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

func render(chart, release, namespace string, overrides []string) (string, error) {
	files, err := read(chart)
	if err != nil {
		return "", err
	}
	values, about := object{}, object{}
	if err := yaml.Unmarshal([]byte(files["values.yaml"]), &values); err != nil {
		return "", err
	}
	if err := yaml.Unmarshal([]byte(files["Chart.yaml"]), &about); err != nil {
		return "", err
	}
	for _, text := range overrides {
		override := object{}
		if err := json.Unmarshal([]byte(text), &override); err != nil {
			return "", err
		}
		merge(values, override)
	}
	// Helm names these fields with capitals.
	capital := object{}
	for name, value := range about {
		capital[strings.ToUpper(name[:1])+name[1:]] = value
	}
	top := object{
		"Values":  values,
		"Chart":   capital,
		"Release": object{"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1},
		"Files":   files,
	}

	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	names := []string{}
	for name, text := range files {
		if !strings.HasPrefix(name, "templates/") {
			continue
		}
		if _, err := all.New(name).Parse(text); err != nil {
			return "", err
		}
		names = append(names, name)
	}
	sort.Strings(names)
	output := strings.Builder{}
	for _, name := range names {
		base := path.Base(name)
		if strings.HasPrefix(base, "_") {
			continue
		}
		text := strings.Builder{}
		if err := all.ExecuteTemplate(&text, name, top); err != nil {
			return "", err
		}
		if base != "NOTES.txt" {
			fmt.Fprintf(&output, "---\n# %s\n%s\n", name, text.String())
		}
	}
	return output.String(), nil
}

// What Helm adds to sprig.
func functions(all *template.Template) template.FuncMap {
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data interface{}) (string, error) {
		text := strings.Builder{}
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	return functions
}

// The files of a chart, by path.
type Files map[string]string

func read(chart string) (Files, error) {
	files := Files{}
	return files, filepath.Walk(chart, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		within, err := filepath.Rel(chart, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		files[filepath.ToSlash(within)] = string(text)
		return err
	})
}

func (files Files) Get(name string) string {
	return files[name]
}

func (files Files) Glob(pattern string) Files {
	found := Files{}
	for name, text := range files {
		if matches, _ := path.Match(pattern, name); matches {
			found[name] = text
		}
	}
	return found
}

func merge(into, from object) {
	for name, value := range from {
		inner, isObject := value.(object)
		outer, wasObject := into[name].(object)
		if isObject && wasObject {
			merge(outer, inner)
		} else {
			into[name] = value
		}
	}
}
